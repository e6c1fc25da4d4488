#include "plait/torch/torch_stage.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "plait/torch/tensors.h"
#include "tests/support/segments.h"

namespace plait {
namespace {

using testing::HasSubstr;
using List = std::vector<at::Tensor>;

at::Tensor ramp(std::int64_t rows, std::int64_t columns, double from, double to) {
  return at::linspace(from, to, rows * columns).view({rows, columns});
}

List tensors_of(const Value& value) {
  return value == nullptr ? List{} : dynamic_cast<const Tensors&>(*value).tensors;
}

std::shared_ptr<FunctionSegment> linear_segment(const std::string& name, double from) {
  return std::make_shared<FunctionSegment>(name, List{ramp(4, 4, from, 1.0)},
                                           [](const List& x, const List& w, int) {
                                             return List{at::tanh(at::linear(x[0], w[0])).t().t()};
                                           });
}

std::shared_ptr<FunctionSegment> source_segment() {
  return std::make_shared<FunctionSegment>(
      "source", List{ramp(3, 4, -1.0, 1.0)},
      [](const List&, const List& w, int microbatch) { return List{w[0] * (microbatch + 1)}; });
}

std::shared_ptr<FunctionSegment> loss_segment() {
  return std::make_shared<FunctionSegment>(
      "head", List{ramp(2, 4, -0.5, 0.5)}, [](const List& x, const List& w, int) {
        return List{at::mse_loss(at::linear(x[0], w[0]), at::ones({3, 2}))};
      });
}

/// y = x * w with both changed in place: through a view, so that it cannot be split.
std::shared_ptr<FunctionSegment> whole_segment() {
  return std::make_shared<FunctionSegment>("copy", List{ramp(1, 4, 0.5, 1.5)},
                                           [](const List& x, const List& w, int) {
                                             at::Tensor y = x[0].clone();
                                             y.narrow(0, 0, 1).mul_(w[0]);
                                             return List{y};
                                           });
}

struct Model {
  std::shared_ptr<LossSink> losses = std::make_shared<LossSink>();
  TorchStage first, second;
  explicit Model(std::shared_ptr<Segment> middle = linear_segment("b", -0.3))
      : first({source_segment(), linear_segment("a", -1.0)}),
        second({std::move(middle), loss_segment()}, losses) {
    losses->reset(3);
  }
  List gradients() const {
    List all;
    for (const TorchStage* stage : {&first, &second}) {
      for (const Parameter& parameter : stage->parameters()) all.push_back(parameter.tensor.grad());
    }
    return all;
  }
};

void run_whole(Model& model) {
  for (int mb = 0; mb < 3; ++mb) {
    ForwardResult f0 = model.first.forward({0, mb}, nullptr, true).value();
    ForwardResult f1 = model.second.forward({0, mb}, std::move(f0.output), true).value();
    EXPECT_EQ(f1.output, nullptr);
    Value gradient = model.second.backward({0, mb}, std::move(f1.saved), nullptr).value();
    EXPECT_EQ(model.first.backward({0, mb}, std::move(f0.saved), std::move(gradient)).value(),
              nullptr);
  }
}

/// Returns how many stages ran whole.
int run_split(Model& model) {
  int whole = 0;
  std::vector<Value> first, second;
  for (int mb = 0; mb < 3; ++mb) {
    ForwardResult f0 = model.first.forward({0, mb}, nullptr, true).value();
    ForwardResult f1 = model.second.forward({0, mb}, std::move(f0.output), true).value();
    auto i1 = model.second.backward_input({0, mb}, std::move(f1.saved), nullptr).value();
    auto i0 = model.first.backward_input({0, mb}, std::move(f0.saved), std::move(i1.input_gradient))
                  .value();
    EXPECT_EQ(i0.input_gradient, nullptr);
    EXPECT_NE(i0.saved_for_weight, nullptr);
    EXPECT_NE(i1.saved_for_weight, nullptr);
    whole += (i0.whole ? 1 : 0) + (i1.whole ? 1 : 0);
    first.push_back(std::move(i0.saved_for_weight));
    second.push_back(std::move(i1.saved_for_weight));
  }
  for (int mb = 0; mb < 3; ++mb) {
    EXPECT_TRUE(
        model.first.backward_weight({0, mb}, std::move(first[static_cast<std::size_t>(mb)])));
    EXPECT_TRUE(
        model.second.backward_weight({0, mb}, std::move(second[static_cast<std::size_t>(mb)])));
  }
  return whole;
}

TEST(TorchStage, SplitGivesTheBitsOfWhole) {
  Model whole, split;
  run_whole(whole);
  EXPECT_EQ(run_split(split), 0);
  const List a = whole.gradients(), b = split.gradients();
  ASSERT_EQ(a.size(), 4u);
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(same_bits(a[i], b[i])) << i;
    EXPECT_GT(a[i].abs().sum().item<float>(), 0.0f) << i;
  }
  ASSERT_TRUE(whole.losses->read() && split.losses->read());
  EXPECT_EQ(whole.losses->losses(), split.losses->losses());
  EXPECT_GT(whole.losses->mean(), 0.0);
}

TEST(TorchStage, AStageWithASegmentThatCannotBeSplitRunsWhole) {
  Model whole(whole_segment()), split(whole_segment());
  run_whole(whole);
  EXPECT_EQ(run_split(split), 3);  // the second stage, in each of three micro-batches
  const List a = whole.gradients(), b = split.gradients();
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_bits(a[i], b[i])) << i;
}

TEST(TorchStage, BoundariesAreContiguousAndWithoutGraph) {
  TorchStage stage(
      {std::make_shared<FunctionSegment>("turn", List{}, [](const List& x, const List&, int) {
        return List{x[0].t(), x[0] * 2};
      })});
  const auto result = stage.forward({0, 0}, make_value({ramp(3, 4, 0, 1)}), true).value();
  for (const at::Tensor& output : tensors_of(result.output)) {
    EXPECT_TRUE(output.is_contiguous());
    EXPECT_FALSE(output.requires_grad());
  }
}

TEST(TorchStage, EvaluationSavesNothing) {
  Model model;
  ForwardResult f0 = model.first.forward({0, 0}, nullptr, false).value();
  EXPECT_EQ(f0.saved, nullptr);
  ForwardResult f1 = model.second.forward({0, 1}, std::move(f0.output), false).value();
  EXPECT_EQ(f1.saved, nullptr);
  ASSERT_TRUE(model.losses->read());
  EXPECT_GT(model.losses->losses()[1], 0.0);
}

Error forward_error(std::shared_ptr<Segment> segment, bool last = false) {
  auto losses = last ? std::make_shared<LossSink>() : nullptr;
  if (last) losses->reset(4);
  TorchStage stage({std::move(segment)}, losses);
  auto result = stage.forward({0, 3}, make_value({ramp(3, 4, 0, 1)}), true);
  EXPECT_FALSE(result);
  return result ? Error{} : result.error();
}

TEST(TorchStage, ExceptionsOfTorchNameTheSegment) {
  const Error error = forward_error(std::make_shared<FunctionSegment>(
      "layers.2.mlp", List{ramp(2, 5, 0, 1)},
      [](const List& x, const List& w, int) { return List{at::linear(x[0], w[0])}; }));
  EXPECT_EQ(error.code, ErrorCode::kRuntime);
  EXPECT_EQ(error.where, "segment layers.2.mlp, micro-batch 3");
  EXPECT_THAT(error.message, HasSubstr("3x4"));
  EXPECT_EQ(error.message.find('\n'), std::string::npos);
}

TEST(TorchStage, AnInPlaceChangeOfABoundaryNamesTheSegment) {
  TorchStage stage(
      {linear_segment("calm", 0.5),
       std::make_shared<FunctionSegment>("rude", List{}, [](const List& x, const List&, int) {
         return List{x[0].add_(1) * 2};
       })});
  for (const bool for_backward : {false, true}) {  // torch itself notices only the second
    const auto result = stage.forward({0, 0}, make_value({ramp(3, 4, 0, 1)}), for_backward);
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().where, HasSubstr("segment rude"));
    EXPECT_THAT(result.error().message, testing::ContainsRegex("in place|in-place"));
  }
}

TEST(TorchStage, ALossThatIsNotFiniteIsAnErrorOfTheStepsEnd) {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    auto losses = std::make_shared<LossSink>();
    losses->reset(5);
    TorchStage stage(
        {std::make_shared<FunctionSegment>("head", List{},
                                           [bad](const List& x, const List&, int mb) {
                                             return List{x[0].sum() * (mb >= 3 ? bad : 1.0)};
                                           })},
        losses);
    for (const int mb : {4, 3, 1})  // micro-batches 0 and 2 are another rank's
      ASSERT_TRUE(stage.forward({0, mb}, make_value({ramp(3, 4, 0, 1)}), true));
    const Expected<void> ended = stage.end_step();
    ASSERT_FALSE(ended);
    EXPECT_EQ(ended.error().code, ErrorCode::kNotFinite);
    EXPECT_EQ(ended.error().message,
              std::string("loss is ") + (bad > 0 ? "inf" : "nan") + " at micro-batch 3");
  }
}

TEST(TorchStage, ALossOfManyNumbersIsAnError) {
  const Error error = forward_error(linear_segment("head", 0.0), true);
  EXPECT_THAT(error.message, HasSubstr("one number"));
}

TEST(Tensors, AreOfTheirOwnSpecAndOfNoOther) {
  const std::vector<List> lists = {{},
                                   {at::Tensor()},
                                   {at::zeros({2, 3})},
                                   {at::zeros({3, 2})},
                                   {at::zeros({6})},
                                   {at::zeros({})},
                                   {at::zeros({2, 3}, at::kLong)},
                                   {at::zeros({2, 3}), at::Tensor()},
                                   {at::Tensor(), at::zeros({2, 3})},
                                   {at::zeros({2, 3}), at::zeros({2, 3})}};
  for (const List& one : lists) {
    for (const List& other : lists) {
      const Value value = make_value(one);
      EXPECT_EQ(value->is_of(spec_of(other)), value->spec() == spec_of(other))
          << print_spec(spec_of(one)) << " and " << print_spec(spec_of(other));
    }
  }
}

}  // namespace
}  // namespace plait
