/// For tests: stages on plain arrays with exchanges inside, as a mixture of experts has them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "plait/runtime/reference.h"
#include "tests/support/world.h"

namespace plait::testing {

/// Equal shares of a list of numbers.
class NumbersExchange final : public ExchangeValue {
 public:
  NumbersExchange(std::vector<double> list, int members)
      : list_(std::move(list)), members_(members) {}
  Bytes bytes() const override { return static_cast<Bytes>(list_.size() * sizeof(double)); }
  Bytes bytes_leaving() const override { return bytes() / members_ * (members_ - 1); }
  Value share_for(int member) override {
    const auto share = static_cast<std::ptrdiff_t>(list_.size()) / members_;
    const auto first = list_.begin() + share * member;
    return numbers(std::vector<double>(first, first + share));
  }
  Value join(std::vector<Value> shares) override {
    std::vector<double> all;
    for (const Value& share : shares)
      all.insert(all.end(), numbers_in(share).begin(), numbers_in(share).end());
    return numbers(std::move(all));
  }

 private:
  std::vector<double> list_;
  int members_;
};

/// Per unit attn, counts, dispatch, mlp, combine; then the tail. Results depend on the column, on
/// what the other members sent and on the order in which each part's gradient adds up.
class ExchangingStage final : public Stage {
 public:
  ExchangingStage(int stage, int stages, int units, int column, int members, bool recompute)
      : stage_(stage), last_(stage == stages - 1), column_(column), members_(members) {
    for (int unit = 0; unit < units; ++unit) {
      shape_.push_back({Lane::kCompute, "attn", unit, true, recompute && unit == 0});
      shape_.push_back({Lane::kCommunication, "counts", unit, false});
      shape_.push_back({Lane::kCommunication, "dispatch", unit, true});
      shape_.push_back({Lane::kCompute, "mlp", unit, true, recompute});
      shape_.push_back({Lane::kCommunication, "combine", unit, true});
    }
    shape_.push_back({Lane::kCompute, "tail", -1, true});
    weight_gradients.resize(shape_.size());
  }

  const StageShape& shape() const { return shape_; }

  Expected<ForwardResult> forward(PartOf which, Value input, bool for_backward) override {
    std::vector<double> x = input ? numbers_in(input)
                                  : std::vector<double>(static_cast<std::size_t>(2 * members_),
                                                        which.microbatch + 0.25 + 0.125 * column_);
    std::vector<double> y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i)
      y[i] = x[i] * factor(which.part) + 0.01 * static_cast<double>(i);
    ForwardResult result;
    if (ends_model(which.part)) {
      for (const double one : y) loss += one * 0.5 + loss * 0.001;
    } else {
      result.output = numbers(std::move(y));
    }
    if (for_backward) {
      // One number too many until it is recomputed.
      if (shape_[static_cast<std::size_t>(which.part)].recompute) x.push_back(-1e30);
      result.saved = numbers(std::move(x));
    }
    return result;
  }
  Expected<Value> recompute(PartOf, Value saved) override {
    std::vector<double> x = numbers_in(saved);
    x.pop_back();
    return numbers(std::move(x));
  }
  Expected<BackwardInputResult> backward_input(PartOf which, Value saved,
                                               Value output_gradient) override {
    const std::vector<double>& x = numbers_in(saved);
    std::vector<double> gradient = gradient_of(which, x.size(), output_gradient);
    std::vector<double> for_weight = x;
    for_weight.insert(for_weight.end(), gradient.begin(), gradient.end());
    BackwardInputResult result;
    result.input_gradient = input_gradient(which.part, gradient);
    result.saved_for_weight = numbers(std::move(for_weight));
    return result;
  }
  Expected<void> backward_weight(PartOf which, Value saved_for_weight) override {
    const std::vector<double>& both = numbers_in(saved_for_weight);
    const auto half = static_cast<std::ptrdiff_t>(both.size() / 2);
    accumulate(which.part, {both.begin(), both.begin() + half}, {both.begin() + half, both.end()});
    return {};
  }
  Expected<Value> backward(PartOf which, Value saved, Value output_gradient) override {
    const std::vector<double>& x = numbers_in(saved);
    const std::vector<double> gradient = gradient_of(which, x.size(), output_gradient);
    accumulate(which.part, x, gradient);
    return input_gradient(which.part, gradient);
  }
  Expected<ExchangeStart> start_exchange(PartOf which, Value input, bool for_backward) override {
    ExchangeStart start;
    if (!has_backward(which.part)) {
      start.exchange = std::make_unique<NumbersExchange>(
          std::vector<double>(static_cast<std::size_t>(members_), 1.0), members_);
      start.carried = std::move(input);
      return start;
    }
    start.exchange = std::make_unique<NumbersExchange>(numbers_in(input), members_);
    if (for_backward) start.saved = numbers({});
    return start;
  }
  Expected<ExchangeStart> start_exchange_back(PartOf, Value, Value gradient) override {
    ExchangeStart start;
    start.exchange = std::make_unique<NumbersExchange>(numbers_in(gradient), members_);
    return start;
  }
  Value end_exchange(Value carried, Value arrived) noexcept override {
    return carried ? std::move(carried) : std::move(arrived);
  }

  double loss = 0;
  std::vector<double> weight_gradients;  ///< by part

 private:
  bool has_backward(int part) const { return shape_[static_cast<std::size_t>(part)].has_backward; }
  bool ends_model(int part) const { return last_ && part + 1 == static_cast<int>(shape_.size()); }
  double factor(int part) const { return 1.0 + 0.1 * stage_ + 0.01 * part + 0.003 * column_; }
  std::vector<double> gradient_of(PartOf which, std::size_t size,
                                  const Value& output_gradient) const {
    if (!ends_model(which.part)) return numbers_in(output_gradient);
    return std::vector<double>(size, 1.0 + which.microbatch + 0.25 * column_);
  }
  Value input_gradient(int part, std::vector<double> gradient) const {
    if (stage_ == 0 && part == 0) return nullptr;
    for (double& one : gradient) one *= factor(part);
    return numbers(std::move(gradient));
  }
  void accumulate(int part, const std::vector<double>& x, const std::vector<double>& gradient) {
    double& sum = weight_gradients[static_cast<std::size_t>(part)];
    for (std::size_t i = 0; i < x.size(); ++i) sum = sum * 0.999 + x[i] * gradient[i];
  }

  int stage_;
  bool last_;
  int column_;
  int members_;
  StageShape shape_;
};

/// The stages of every column of a grid without replicas: stage s has 1 + s mod 2 units, and stage
/// 2 none.
class ExchangingStages {
 public:
  ExchangingStages(const Placement& placement, int members, bool recompute = false)
      : members_(members) {
    for (int column = 0; column < members; ++column) {
      owned_.emplace_back();
      for (int stage = 0; stage < placement.stages(); ++stage) {
        owned_.back().push_back(std::make_unique<ExchangingStage>(
            stage, placement.stages(), stage == 2 ? 0 : 1 + stage % 2, column, members, recompute));
      }
    }
  }
  std::vector<StageShape> shapes() const {
    std::vector<StageShape> all;
    for (const auto& stage : owned_.front()) all.push_back(stage->shape());
    return all;
  }
  std::vector<Stage*> pointers(int column) const {
    std::vector<Stage*> all;
    for (const auto& stage : owned_[static_cast<std::size_t>(column)]) all.push_back(stage.get());
    return all;
  }
  std::vector<double> results() const {
    std::vector<double> all;
    for (const auto& column : owned_) {
      for (const auto& stage : column) {
        all.push_back(stage->loss);
        all.insert(all.end(), stage->weight_gradients.begin(), stage->weight_gradients.end());
      }
    }
    return all;
  }
  /// Micro-batches ascending, without the runtime.
  void run_reference(const Schedule& schedule) {
    SideBySide model{{}, shapes(), members_};
    for (int column = 0; column < members_; ++column) model.columns.push_back(pointers(column));
    for (int mb = 0; mb < schedule.microbatches; ++mb)
      EXPECT_TRUE(run_side_by_side(model, mb, !schedule.forward_only));
  }

 private:
  int members_;
  std::vector<std::vector<std::unique_ptr<ExchangingStage>>> owned_;  // by column, by stage
};

}  // namespace plait::testing
