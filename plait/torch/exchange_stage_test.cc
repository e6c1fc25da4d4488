#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/tanh.h>
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "plait/torch/tensors.h"
#include "plait/torch/torch_stage.h"
#include "tests/support/segments.h"

namespace plait {
namespace {

using List = std::vector<at::Tensor>;

at::Tensor ramp(std::int64_t rows, std::int64_t columns, double first, double last) {
  at::Tensor tensor = at::empty({rows, columns}, at::kFloat);
  auto* numbers = tensor.mutable_data_ptr<float>();
  const std::int64_t count = rows * columns;
  for (std::int64_t i = 0; i < count; ++i)
    numbers[i] = static_cast<float>(first + (last - first) * static_cast<double>(i) /
                                                static_cast<double>(count));
  return tensor;
}

/// rows -> tanh(rows W0) ⇒ exchange ⇒ sum of the rows' squares times W1.
std::vector<std::shared_ptr<Segment>> make_segments(const RowSplits& splits) {
  std::vector<std::shared_ptr<Segment>> segments;
  segments.push_back(std::make_shared<FunctionSegment>(
      "layers.0.attn", List{ramp(4, 4, -1, 1)}, [](const List& x, const List& w, int) -> List {
        return {x[0] * 2, at::tanh(at::linear(x[0], w[0]))};
      }));
  segments.push_back(std::make_shared<ExchangeSegment>("layers.0.dispatch", 1, true,
                                                       [splits](const List&) { return splits; }));
  segments.push_back(std::make_shared<FunctionSegment>(
      "layers.0.mlp", List{ramp(4, 4, 0, 1)}, [](const List& x, const List& w, int) -> List {
        return {at::linear(x[1], w[0]).pow(2).sum() + x[0].sum()};
      }));
  return segments;
}

struct Member {
  explicit Member(const RowSplits& splits, int place = 0)
      : losses(std::make_shared<LossSink>()), stage(make_segments(splits), losses, {place, 2}) {
    losses->reset(1);
  }
  std::shared_ptr<LossSink> losses;
  TorchStage stage;
};

/// What the comm does with two members' exchanges.
void exchange(std::vector<Member>& members, std::vector<ExchangeStart>& starts,
              std::vector<Value>& values) {
  for (std::size_t to = 0; to < starts.size(); ++to) {
    std::vector<Value> came;
    for (const ExchangeStart& from : starts)
      came.push_back(from.exchange->share_for(static_cast<int>(to)));
    values[to] = members[to].stage.end_exchange(std::move(starts[to].carried),
                                                starts[to].exchange->join(std::move(came)));
  }
}

const RowSplits kFirst{{1, 2}, {1, 4}};
const RowSplits kSecond{{4, 0}, {2, 0}};

TEST(TorchStage, ExchangesSplitAStageIntoParts) {
  const TorchStage stage(make_segments(kFirst), nullptr, {0, 2});
  const StageShape shape = stage.shape();
  ASSERT_EQ(shape.size(), 3U);
  EXPECT_EQ(shape[0], (PartShape{Lane::kCompute, "attn", 0, true}));
  EXPECT_EQ(shape[1], (PartShape{Lane::kCommunication, "dispatch", 0, true}));
  EXPECT_EQ(shape[2], (PartShape{Lane::kCompute, "tail", -1, true}));
  EXPECT_EQ(TorchStage(make_segments(kFirst), nullptr, {0, 1}).shape().size(), 1U);
}

TEST(TorchStage, RowsAndTheirGradientsGoWhereTheSplitsSay) {
  for (const bool split : {false, true}) {
    std::vector<Member> members;
    members.emplace_back(kFirst);
    members.emplace_back(kSecond);
    const List inputs{ramp(3, 4, -1, 1), ramp(4, 4, 0, 2)};
    std::vector<Value> values, saved;
    std::vector<ExchangeStart> starts;
    for (std::size_t i = 0; i < 2; ++i) {
      ForwardResult first = members[i].stage.forward({0, 0}, make_value({inputs[i]}), true).value();
      saved.push_back(std::move(first.saved));
      starts.push_back(
          members[i].stage.start_exchange({1, 0}, std::move(first.output), true).value());
    }
    std::vector<Value> splits;
    for (ExchangeStart& start : starts) splits.push_back(std::move(start.saved));
    values.resize(2);
    exchange(members, starts, values);
    List gradients;
    std::vector<ExchangeStart> back;
    for (std::size_t i = 0; i < 2; ++i) {
      ForwardResult last = members[i].stage.forward({2, 0}, std::move(values[i]), true).value();
      Value gradient;
      if (split) {
        BackwardInputResult half =
            members[i].stage.backward_input({2, 0}, std::move(last.saved), nullptr).value();
        EXPECT_FALSE(half.whole);
        gradient = std::move(half.input_gradient);
        EXPECT_TRUE(members[i].stage.backward_weight({2, 0}, std::move(half.saved_for_weight)));
      } else {
        gradient = members[i].stage.backward({2, 0}, std::move(last.saved), nullptr).value();
      }
      back.push_back(
          members[i]
              .stage.start_exchange_back({1, 0}, std::move(splits[i]), std::move(gradient))
              .value());
    }
    exchange(members, back, values);
    for (std::size_t i = 0; i < 2; ++i) {
      const Value gradient =
          members[i].stage.backward({0, 0}, std::move(saved[i]), std::move(values[i])).value();
      gradients.push_back(static_cast<const Tensors&>(*gradient).tensors.front());
    }
    // The same by plain autograd, each member's rows joined by hand: what is not contiguous there
    // may differ in the last bit.
    List leaves, weights0, weights1, hidden;
    for (std::size_t i = 0; i < 2; ++i) {
      leaves.push_back(inputs[i].detach().requires_grad_());
      weights0.push_back(ramp(4, 4, -1, 1).requires_grad_());
      weights1.push_back(ramp(4, 4, 0, 1).requires_grad_());
      hidden.push_back(at::tanh(at::linear(leaves[i], weights0[i])));
    }
    const List rows{at::cat({hidden[0].narrow(0, 0, 1), hidden[1].narrow(0, 0, 4)}),
                    hidden[0].narrow(0, 1, 2)};
    for (std::size_t i = 0; i < 2; ++i) {
      const at::Tensor loss = at::linear(rows[i], weights1[i]).pow(2).sum() + (leaves[i] * 2).sum();
      ASSERT_TRUE(members[i].losses->read());
      EXPECT_EQ(members[i].losses->losses()[0], loss.item().toDouble());
      loss.backward({}, true);
    }
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_TRUE(at::allclose(gradients[i], leaves[i].grad(), 1e-6, 1e-6)) << "member " << i;
      const std::vector<Parameter> parameters = members[i].stage.parameters();
      EXPECT_TRUE(at::allclose(parameters[0].tensor.grad(), weights0[i].grad(), 1e-6, 1e-6))
          << "member " << i;
      EXPECT_TRUE(at::allclose(parameters[1].tensor.grad(), weights1[i].grad(), 1e-6, 1e-6))
          << "member " << i;
    }
  }
}

TEST(TorchStage, AnExchangeThatDoesNotAddUpNamesTheSegment) {
  const TorchStage unused(make_segments(kFirst), nullptr, {0, 2});
  TorchStage stage(make_segments({{1, 1}, {1, 1}}), nullptr, {0, 2});
  ForwardResult first = stage.forward({0, 0}, make_value({ramp(3, 4, 0, 1)}), true).value();
  const auto start = stage.start_exchange({1, 0}, std::move(first.output), true);
  ASSERT_FALSE(start);
  EXPECT_EQ(
      start.error().text(),
      "segment layers.0.dispatch, micro-batch 0: 2 rows are to be exchanged, the tensor has 3");
}

TEST(TorchStage, OnlyRowCountsAreReadOnTheHost) {
  for (const bool has_gradient : {false, true}) {
    std::vector<std::shared_ptr<Segment>> segments = make_segments(kFirst);
    segments[1] = std::make_shared<ExchangeSegment>("layers.0.counts", 1, has_gradient,
                                                    [](const List&) { return kFirst; });
    TorchStage stage(segments, nullptr, {0, 2});
    ForwardResult first = stage.forward({0, 0}, make_value({ramp(3, 4, 0, 1)}), true).value();
    ExchangeStart start = stage.start_exchange({1, 0}, std::move(first.output), true).value();
    const Value joined = stage.end_exchange(std::move(start.carried), make_value({}));
    EXPECT_EQ(joined->read_on_host(), !has_gradient);
  }
}

TEST(TorchStage, AMemberThatSendsOtherRowsThanAnnouncedIsAnError) {
  std::vector<Member> members;
  members.emplace_back(kFirst);
  members.emplace_back(RowSplits{{3, 1}, {2, 1}});
  std::vector<ExchangeStart> starts;
  for (Member& member : members) {
    const std::int64_t rows = &member == members.data() ? 3 : 4;
    ForwardResult first =
        member.stage.forward({0, 0}, make_value({ramp(rows, 4, 0, 1)}), true).value();
    starts.push_back(member.stage.start_exchange({1, 0}, std::move(first.output), true).value());
  }
  std::vector<Value> values(2);
  exchange(members, starts, values);
  const auto result = members[0].stage.forward({2, 0}, std::move(values[0]), true);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().text(),
            "segment layers.0.mlp, micro-batch 0: member 1 sent 3 rows, it had announced 4");
}

}  // namespace
}  // namespace plait
