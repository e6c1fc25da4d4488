#include "plait/train/reduce.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "plait/passes/insert_comm.h"
#include "plait/passes/passes.h"
#include "plait/runtime/inproc_comm.h"
#include "plait/schedule/generators.h"
#include "plait/torch/tensors.h"
#include "tests/support/models.h"

namespace plait {
namespace {

/// Counts the bytes of what a member hands to the others.
class CountedShares final : public ExchangeValue {
 public:
  CountedShares(std::unique_ptr<ExchangeValue> of, int own, Bytes& left)
      : of_(std::move(of)), own_(own), left_(left) {}
  Bytes bytes() const override { return of_->bytes(); }
  Bytes bytes_leaving() const override { return of_->bytes_leaving(); }
  Value share_for(int member) override {
    Value share = of_->share_for(member);
    if (member != own_) left_ += share->bytes();
    return share;
  }
  Value join(std::vector<Value> shares) override { return of_->join(std::move(shares)); }

 private:
  std::unique_ptr<ExchangeValue> of_;
  int own_;
  Bytes& left_;
};

class OneResult final : public CompletionSink {
 public:
  void completed(std::uint32_t, Expected<Value> result) noexcept override {
    value = *std::move(result);
  }
  Value value;
};

/// One rank of a column each, all of one stage, with gradients of their own.
struct Columns {
  explicit Columns(const Grid& of) : grid(of), world(of) {
    parts = *partition_layers(model, 1, kLength, {});
    LowerOptions options;
    options.reduced = reduced_groups(model, parts, grid);
    program = *lower(*verify(*insert_comm(*insert_reduce_grad(*generate("gpipe", {1, 2}), {}))), 0,
                     options);
    for (int column = 0; column < grid.columns(); ++column) {
      ParameterStore& store = stores.emplace_back();
      const Shapes shapes = parameter_shapes(model);
      for (const auto& [name, shape] : shapes) store.create(name, shape);
      store.allocate_gradients();
      unsigned seed = 100 * static_cast<unsigned>(column);
      for (const Parameter& parameter : store.parameters())
        parameter.tensor.mutable_grad().copy_(numbers(parameter.tensor.sizes(), seed++));
      std::map<int, std::set<std::string>> names;
      for (const Parameter& parameter : store.parameters()) names[0].insert(parameter.name);
      reducers.emplace_back(reduced_rows(names, program, store), grid, column, store, buffers);
    }
  }

  /// One collective of all columns; what left each of them.
  std::vector<Bytes> move(CollectiveKind kind, std::vector<std::unique_ptr<ExchangeValue>> values,
                          std::vector<Value>& came) {
    Collective which;
    which.kind = kind;
    which.group = Group::kReplicas;
    std::vector<Bytes> left(values.size());
    std::vector<OneResult> results(values.size());
    for (std::size_t column = 0; column < values.size(); ++column) {
      const Bytes announced = values[column]->bytes_leaving();
      world.comm(static_cast<int>(column))
          .collective(which,
                      std::make_unique<CountedShares>(std::move(values[column]),
                                                      static_cast<int>(column), left[column]),
                      0, results[column]);
      announced_.push_back(announced);
    }
    came.clear();
    for (OneResult& result : results) came.push_back(std::move(result.value));
    EXPECT_EQ(left, announced_);
    announced_.clear();
    return left;
  }

  ModelConfig model = small_model(false);
  Grid grid;
  InprocWorld world;
  std::vector<StagePart> parts;
  RankProgram program;
  MemoryAccount buffers;
  std::deque<ParameterStore> stores;
  std::deque<GradientReducer> reducers;

 private:
  std::vector<Bytes> announced_;
};

TEST(GradientReducer, OnlyWhatARankNeedsTravelsAndSumsAreInOrderOfColumns) {
  for (const int columns : {2, 3}) {
    Columns ranks({1, columns, 1});
    std::vector<std::vector<at::Tensor>> before;
    Bytes gradients = 0;
    for (const ParameterStore& store : ranks.stores) {
      before.emplace_back();
      for (const Parameter& parameter : store.parameters())
        before.back().push_back(parameter.tensor.grad().clone());
    }
    for (const at::Tensor& gradient : before.front())
      gradients += static_cast<Bytes>(gradient.nbytes());

    std::vector<std::unique_ptr<ExchangeValue>> values;
    for (GradientReducer& reducer : ranks.reducers)
      values.push_back(*reducer.scatter(0, Group::kReplicas));
    std::vector<Value> came;
    // A slice is the n-th part of the gradients, in whole numbers.
    const Bytes slice = (gradients / 4 + columns - 1) / columns * 4;
    const std::vector<Bytes> expected(static_cast<std::size_t>(columns), slice * (columns - 1));
    EXPECT_EQ(ranks.move(CollectiveKind::kReduceScatter, std::move(values), came), expected);
    values.clear();
    for (std::size_t column = 0; column < came.size(); ++column)
      values.push_back(
          *ranks.reducers[column].gather(0, Group::kReplicas, std::move(came[column])));
    EXPECT_EQ(ranks.move(CollectiveKind::kAllGather, std::move(values), came), expected);
    for (std::size_t column = 0; column < came.size(); ++column)
      EXPECT_TRUE(ranks.reducers[column].finish(0, Group::kReplicas, std::move(came[column])));

    for (const ParameterStore& store : ranks.stores) {
      const std::vector<Parameter> parameters = store.parameters();
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        at::Tensor sum = before[0][i].clone();
        for (std::size_t column = 1; column < before.size(); ++column) sum.add_(before[column][i]);
        EXPECT_TRUE(same_bits(parameters[i].tensor.grad(), sum)) << parameters[i].name;
      }
    }
  }
}

}  // namespace
}  // namespace plait
