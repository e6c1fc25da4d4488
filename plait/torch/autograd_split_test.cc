#include "plait/torch/autograd_split.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "plait/torch/memory.h"
#include "plait/torch/torch_version.h"
#include "tests/support/module_kinds.h"
#include "tests/support/segments.h"

namespace plait {
namespace {

// The tensors are small, and threads that spin for each other are slow on a busy machine.
[[maybe_unused]] const bool kOneThread = (at::set_num_threads(1), true);

using namespace kinds;
constexpr int kMicrobatches = 3;

/// A new module with the same numbers each time.
FunctionSegment make_segment(const Kind& kind) {
  List parameters;
  for (const auto& shape : kind.parameters) {
    parameters.push_back(numbers(shape, 100 + static_cast<unsigned>(parameters.size())));
  }
  return {kind.name, std::move(parameters), kind.function};
}

List make_inputs(const Kind& kind, int microbatch) {
  List inputs;
  for (const auto& shape : kind.inputs) {
    const auto seed = 10 * microbatch + static_cast<int>(inputs.size());
    inputs.push_back(numbers(shape, static_cast<unsigned>(seed)));
  }
  return inputs;
}

List make_output_gradients(const List& outputs, int microbatch) {
  List gradients;
  for (const at::Tensor& output : outputs) {
    const auto seed = 1000 + 10 * microbatch + static_cast<int>(gradients.size());
    gradients.push_back(numbers(output.sizes(), static_cast<unsigned>(seed)));
  }
  return gradients;
}

/// Everything a step gives: per micro-batch the outputs and the input gradients, and .grad at last.
struct Result {
  std::vector<List> outputs, input_gradients;
  List parameter_gradients;
};

void collect_gradients(const Segment& segment, Result& result) {
  for (const Parameter& parameter : segment.parameters()) {
    result.parameter_gradients.push_back(parameter.tensor.grad());
  }
}

/// Plain torch, without our code.
Result run_plain(const Kind& kind) {
  FunctionSegment segment = make_segment(kind);
  Result result;
  for (int mb = 0; mb < kMicrobatches; ++mb) {
    List inputs = make_inputs(kind, mb);
    for (at::Tensor& input : inputs) input.set_requires_grad(true);
    const List outputs = segment.forward(inputs, mb);
    torch::autograd::backward(outputs, make_output_gradients(outputs, mb));
    result.outputs.push_back(outputs);
    result.input_gradients.emplace_back();
    for (const at::Tensor& input : inputs) {
      const at::Tensor gradient = input.grad();
      result.input_gradients.back().push_back(gradient.defined() ? gradient
                                                                 : at::zeros_like(input));
    }
  }
  collect_gradients(segment, result);
  return result;
}

Result run_whole(const Kind& kind) {
  FunctionSegment segment = make_segment(kind);
  Result result;
  for (int mb = 0; mb < kMicrobatches; ++mb) {
    SegmentForward forward = run_forward(segment, make_inputs(kind, mb), mb, true);
    result.outputs.push_back(forward.outputs);
    result.input_gradients.push_back(
        backward(std::move(forward.saved), make_output_gradients(forward.outputs, mb)));
  }
  collect_gradients(segment, result);
  return result;
}

/// All forwards, all I, then all W in the order of micro-batches.
Result run_split(const Kind& kind) {
  FunctionSegment segment = make_segment(kind);
  Result result;
  std::vector<SegmentForward> forwards;
  for (int mb = 0; mb < kMicrobatches; ++mb) {
    forwards.push_back(run_forward(segment, make_inputs(kind, mb), mb, true));
    result.outputs.push_back(forwards.back().outputs);
  }
  std::vector<SavedWeight> weights;
  for (int mb = 0; mb < kMicrobatches; ++mb) {
    SegmentForward& forward = forwards[static_cast<std::size_t>(mb)];
    SegmentBackwardInput input =
        backward_input(std::move(forward.saved), make_output_gradients(forward.outputs, mb));
    EXPECT_EQ(input.whole, !kind.splits);
    result.input_gradients.push_back(std::move(input.input_gradients));
    weights.push_back(std::move(input.saved));
  }
  for (const Parameter& parameter : segment.parameters()) {
    if (!kind.splits) break;
    EXPECT_FALSE(parameter.tensor.grad().defined()) << "I touched a parameter";
  }
  for (SavedWeight& weight : weights) {
    EXPECT_EQ(weight.state == nullptr, !kind.splits || kind.parameters.empty());
    backward_weight(std::move(weight));
  }
  collect_gradients(segment, result);
  return result;
}

void expect_same(const List& a, const List& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_bits(a[i], b[i])) << what << " " << i;
}

void expect_same(const Result& a, const Result& b) {
  for (std::size_t mb = 0; mb < kMicrobatches; ++mb) {
    expect_same(a.outputs[mb], b.outputs[mb], "output");
    expect_same(a.input_gradients[mb], b.input_gradients[mb], "input gradient");
  }
  expect_same(a.parameter_gradients, b.parameter_gradients, "parameter gradient");
}

class EveryKind : public testing::TestWithParam<Kind> {};

TEST_P(EveryKind, WholeIsPlain) { expect_same(run_plain(GetParam()), run_whole(GetParam())); }
TEST_P(EveryKind, SplitIsWhole) { expect_same(run_whole(GetParam()), run_split(GetParam())); }

INSTANTIATE_TEST_SUITE_P(Split, EveryKind, testing::ValuesIn(all_kinds()), [](const auto& test) {
  std::string name = test.param.name;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
});

TEST(Split, NearlyAllKindsSplit) {
  int splits = 0, whole = 0;
  for (const Kind& kind : all_kinds()) (kind.splits ? splits : whole) += 1;
  EXPECT_EQ(splits, 39);
  EXPECT_EQ(whole, 2);
}

/// Random graphs: each node takes two earlier values and a parameter, often one used before.
Kind random_kind(unsigned seed) {
  return {"random",
          {{3, 4}, {3, 4}},
          {{4, 4}, {4, 4}, {4}, {4}},
          [seed](const List& x, const List& w, int) -> List {
            std::mt19937 generator(seed);
            const auto pick = [&](std::size_t count) { return generator() % count; };
            List values = x;
            const std::size_t length = 3 + pick(10);
            for (std::size_t i = 0; i < length; ++i) {
              const at::Tensor a = values[pick(values.size())], b = values[pick(values.size())];
              switch (pick(7)) {
                case 0:
                  values.push_back(at::linear(a, w[pick(2)]));
                  break;
                case 1:
                  values.push_back(at::linear(a, w[pick(2)], w[2 + pick(2)]));
                  break;
                case 2:
                  values.push_back(at::tanh(a) * w[2 + pick(2)]);
                  break;
                case 3:
                  values.push_back(a + b);
                  break;
                case 4:
                  values.push_back(a * b);
                  break;
                case 5:
                  values.push_back(at::linear(a, at::matmul(w[0], w[1]).tanh()));
                  break;
                default:
                  values.push_back(at::gelu(a) - b.sin());
                  break;
              }
            }
            return {values.back(), values[values.size() - 1 - pick(3)]};
          }};
}

TEST(Split, RandomGraphsKeepTheirBits) {
  for (unsigned seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(seed);
    const Kind kind = random_kind(seed);
    FunctionSegment segment = make_segment(kind);
    List gradients[2];
    List inputs[2];
    for (const bool split : {false, true}) {
      for (const Parameter& parameter : segment.parameters())
        parameter.tensor.mutable_grad() = at::Tensor();
      for (int mb = 0; mb < kMicrobatches; ++mb) {
        SegmentForward forward = run_forward(segment, make_inputs(kind, mb), mb, true);
        List output_gradients = make_output_gradients(forward.outputs, mb);
        if (!split) {
          inputs[0] = backward(std::move(forward.saved), output_gradients);
          continue;
        }
        SegmentBackwardInput input = backward_input(std::move(forward.saved), output_gradients);
        EXPECT_FALSE(input.whole);
        inputs[1] = input.input_gradients;
        backward_weight(std::move(input.saved));
      }
      for (const Parameter& parameter : segment.parameters()) {
        gradients[split ? 1 : 0].push_back(parameter.tensor.grad());
      }
    }
    expect_same(inputs[0], inputs[1], "input gradient");
    expect_same(gradients[0], gradients[1], "parameter gradient");
  }
}

/// Counts torch's operations on this thread by name.
class CountOperations {
 public:
  CountOperations() {
    counts().clear();
    handle_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback([](const at::RecordFunction& function) {
          ++counts()[function.name()];
          return std::unique_ptr<at::ObserverContext>();
        }).scopes({at::RecordScope::FUNCTION}));
  }
  ~CountOperations() { at::removeCallback(handle_); }
  int operator[](const std::string& name) const { return counts()[name]; }

 private:
  static std::map<std::string, int>& counts() {
    thread_local std::map<std::string, int> counts;
    return counts;
  }
  at::CallbackHandle handle_;
};

TEST(Split, EachHalfComputesItsHalf) {
  const Kind kind = elementary_kinds()[3];
  ASSERT_STREQ(kind.name, "gelu mlp");
  FunctionSegment segment = make_segment(kind);
  SegmentForward forward = run_forward(segment, make_inputs(kind, 0), 0, true);
  SavedWeight weight;
  {
    const CountOperations count;
    weight =
        backward_input(std::move(forward.saved), make_output_gradients(forward.outputs, 0)).saved;
    EXPECT_EQ(count["aten::mm"], 2);  // one a linear; whole backward: two a linear
    EXPECT_EQ(count["aten::gelu_backward"], 1);
  }
  const CountOperations count;
  backward_weight(std::move(weight));
  EXPECT_EQ(count["aten::mm"], 2);
  EXPECT_EQ(count["aten::gelu_backward"], 0);
}

TEST(Split, WhatWDoesNotNeedIsFreedAfterI) {
  install_counting_allocator();
  const Kind kind = elementary_kinds()[3];
  FunctionSegment segment = make_segment(kind);
  List inputs = make_inputs(kind, 0);
  MemoryAccount account;
  const ScopedAccount scope(account);
  SegmentForward forward = run_forward(segment, inputs, 0, true);
  // x [4, 8] was there before. Hidden before and after gelu: [4, 16] each. Output: [4, 8].
  EXPECT_EQ(account.live(), 4 * (2 * 4 * 16 + 4 * 8));
  List gradients = make_output_gradients(forward.outputs, 0);  // [4, 8]
  forward.outputs.clear();
  EXPECT_EQ(account.live(), 4 * (2 * 4 * 16 + 4 * 8)) << "an output that is not saved must go";
  SegmentBackwardInput input = backward_input(std::move(forward.saved), std::move(gradients));
  // Hidden before gelu is gone. For W: hidden after gelu, its gradient before gelu [4, 16], the
  // output's gradient [4, 8]; and the input's gradient [4, 8].
  EXPECT_EQ(account.live(), 4 * (4 * 16 + 4 * 16 + 4 * 8 + 4 * 8));
  EXPECT_EQ(input.saved.bytes(), 4 * (4 * 16 + 4 * 8));
  input.input_gradients.clear();
  for (const Parameter& parameter : segment.parameters()) {
    parameter.tensor.mutable_grad() = at::zeros_like(parameter.tensor.detach());
  }
  const Bytes numbers_in_gradients = 16 * 8 + 16 + 8 * 16 + 8;
  backward_weight(std::move(input.saved));
  EXPECT_EQ(account.live(), 4 * numbers_in_gradients);
}

TEST(Split, AnUnusedOutputNeedsNoGradient) {
  const Kind kind = odd_kinds()[1];
  ASSERT_STREQ(kind.name, "several outputs");
  List gradients[2];
  for (const bool split : {false, true}) {
    FunctionSegment segment = make_segment(kind);
    SegmentForward forward = run_forward(segment, make_inputs(kind, 0), 0, true);
    List output_gradients = make_output_gradients(forward.outputs, 0);
    output_gradients[0].reset();
    if (split) {
      SegmentBackwardInput input = backward_input(std::move(forward.saved), output_gradients);
      backward_weight(std::move(input.saved));
      gradients[1] = input.input_gradients;
    } else {
      gradients[0] = backward(std::move(forward.saved), output_gradients);
    }
    EXPECT_FALSE(segment.parameters()[0].tensor.grad().defined());
    gradients[split ? 1 : 0].push_back(segment.parameters()[1].tensor.grad());
  }
  expect_same(gradients[0], gradients[1], "gradient");
}

/// x * w, by a node that raises when it is asked whether it is one of torch's, as those of custom
/// functions of Python do.
struct SilentNode final : torch::autograd::Node {
  List apply(List&& gradients) override { return {gradients[0] * w, (gradients[0] * x).sum(0)}; }
  bool is_traceable() override { throw std::runtime_error("no attribute 'is_traceable'"); }
  at::Tensor x, w;
};

TEST(Split, ANodeThatCannotBeAskedRunsWhole) {
  FunctionSegment segment("silent", {numbers({8}, 1)}, [](const List& x, const List& w, int) {
    auto node = make_node<SilentNode>();
    node->x = x[0].detach();
    node->w = w[0].detach();
    node->set_next_edges(torch::autograd::collect_next_edges(x[0], w[0]));
    at::Tensor y = node->x * node->w;
    torch::autograd::create_gradient_edge(y, node);
    return List{y};
  });
  const at::Tensor x = numbers({4, 8}, 2), gradient = numbers({4, 8}, 3);
  SegmentForward forward = run_forward(segment, {x}, 0, true);
  const SegmentBackwardInput input = backward_input(std::move(forward.saved), {gradient});
  EXPECT_TRUE(input.whole);
  const at::Tensor w = segment.parameters()[0].tensor.detach();
  EXPECT_TRUE(same_bits(input.input_gradients[0], gradient * w));
  EXPECT_TRUE(same_bits(segment.parameters()[0].tensor.grad(), (gradient * x).sum(0)));
}

TEST(Split, AForwardOfTheCallersOwnIsSaved) {
  const Kind kind = elementary_kinds()[3];
  const Result plain = run_plain(kind);
  FunctionSegment segment = make_segment(kind);
  Result result;
  for (int mb = 0; mb < kMicrobatches; ++mb) {
    List leaves = make_inputs(kind, mb);
    for (at::Tensor& leaf : leaves) leaf.set_requires_grad(true);
    SegmentForward forward = save_forward(leaves, segment.forward(leaves, mb));
    EXPECT_FALSE(forward.outputs[0].requires_grad());
    List gradients = make_output_gradients(forward.outputs, mb);
    SegmentBackwardInput input = backward_input(std::move(forward.saved), std::move(gradients));
    result.outputs.push_back(std::move(forward.outputs));
    result.input_gradients.push_back(std::move(input.input_gradients));
    backward_weight(std::move(input.saved));
  }
  collect_gradients(segment, result);
  expect_same(plain, result);
}

TEST(Split, IntegersHaveNoGradient) {
  FunctionSegment segment("lookup", {numbers({7, 4}, 1)}, [](const List& x, const List& w, int) {
    return List{at::embedding(w[0], x[0]) * x[1], x[0]};
  });
  const List inputs = {ids(0), numbers({6, 4}, 2)};
  SegmentForward forward = run_forward(segment, inputs, 0, true);
  EXPECT_EQ(forward.outputs[1].scalar_type(), at::kLong);
  SegmentBackwardInput input =
      backward_input(std::move(forward.saved), {numbers({6, 4}, 3), at::Tensor()});
  EXPECT_FALSE(input.whole);
  EXPECT_FALSE(input.input_gradients[0].defined());
  EXPECT_TRUE(input.input_gradients[1].defined());
  backward_weight(std::move(input.saved));
  EXPECT_TRUE(segment.parameters()[0].tensor.grad().defined());
}

TEST(Split, ForwardWithoutBackwardKeepsNothing) {
  FunctionSegment segment = make_segment(elementary_kinds()[0]);
  const SegmentForward forward =
      run_forward(segment, make_inputs(elementary_kinds()[0], 0), 0, false);
  EXPECT_EQ(forward.saved.state, nullptr);
  EXPECT_FALSE(forward.outputs[0].requires_grad());
}

TEST(Split, AnInPlaceChangeOfAnInputIsAnError) {
  FunctionSegment segment("rude", {numbers({8}, 1)}, [](const List& x, const List& w, int) {
    return List{x[0].add_(1.0) * w[0]};
  });
  EXPECT_THROW(run_forward(segment, {numbers({4, 8}, 2)}, 0, false), SegmentError);  // ours
  EXPECT_THROW(run_forward(segment, {numbers({4, 8}, 2)}, 0, true), c10::Error);     // torch's own
}

TEST(Split, AnInPlaceChangeBetweenForwardAndBackwardIsAnError) {
  const Kind kind = elementary_kinds()[5];
  FunctionSegment segment = make_segment(kind);
  for (const bool split : {false, true}) {
    const List inputs = make_inputs(kind, 0);
    SegmentForward forward = run_forward(segment, inputs, 0, true);
    inputs[0].mul_(2.0);
    List gradients = make_output_gradients(forward.outputs, 0);
    if (split) {
      EXPECT_THROW(backward_input(std::move(forward.saved), gradients), SegmentError);
    } else {
      EXPECT_THROW(backward(std::move(forward.saved), gradients), SegmentError);
    }
  }
}

}  // namespace
}  // namespace plait
