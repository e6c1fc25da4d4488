#include "plait/runtime/reference.h"

#include <utility>

namespace plait {
namespace {

using Values = std::vector<Value>;  // by column

class Run {
 public:
  Run(const SideBySide& model, int microbatch, bool for_backward)
      : model_(model),
        microbatch_(microbatch),
        for_backward_(for_backward),
        values_(model.columns.size()) {}

  Expected<void> forward() {
    for (std::size_t stage = 0; stage < stages(); ++stage) {
      saved_.emplace_back();
      for (std::size_t part = 0; part < shape(stage).size(); ++part) {
        saved_.back().emplace_back(values_.size());
        PLAIT_TRY_VOID(exchanges(stage, part) ? exchange(stage, part, /*back=*/false)
                                              : forward(stage, part));
      }
    }
    return {};
  }

  Expected<void> backward() {
    for (std::size_t stage = stages(); stage-- > 0;) {
      for (std::size_t part = shape(stage).size(); part-- > 0;) {
        if (!shape(stage)[part].has_backward) continue;
        PLAIT_TRY_VOID(exchanges(stage, part) ? exchange(stage, part, /*back=*/true)
                                              : backward(stage, part));
      }
    }
    return {};
  }

 private:
  std::size_t stages() const { return model_.columns.front().size(); }
  const StageShape& shape(std::size_t stage) const {
    static const StageShape whole(1);
    return model_.shapes.empty() ? whole : model_.shapes[stage];
  }
  bool exchanges(std::size_t stage, std::size_t part) const {
    return shape(stage)[part].lane == Lane::kCommunication;
  }
  PartOf part_of(std::size_t part) const { return {static_cast<int>(part), microbatch_}; }
  Stage& stage_of(std::size_t column, std::size_t stage) const {
    return *model_.columns[column][stage];
  }

  Expected<void> forward(std::size_t stage, std::size_t part) {
    for (std::size_t column = 0; column < values_.size(); ++column) {
      PLAIT_TRY(ForwardResult result,
                stage_of(column, stage)
                    .forward(part_of(part), std::move(values_[column]), for_backward_));
      values_[column] = std::move(result.output);
      saved_[stage][part][column] = std::move(result.saved);
    }
    return {};
  }

  Expected<void> backward(std::size_t stage, std::size_t part) {
    for (std::size_t column = 0; column < values_.size(); ++column) {
      Stage& one = stage_of(column, stage);
      Value& saved = saved_[stage][part][column];
      if (shape(stage)[part].recompute) {
        PLAIT_TRY(saved, one.recompute(part_of(part), std::move(saved)));
      }
      PLAIT_TRY(values_[column],
                one.backward(part_of(part), std::move(saved), std::move(values_[column])));
    }
    return {};
  }

  Expected<void> exchange(std::size_t stage, std::size_t part, bool back) {
    std::vector<ExchangeStart> starts;
    for (std::size_t column = 0; column < values_.size(); ++column) {
      Stage& one = stage_of(column, stage);
      Value& saved = saved_[stage][part][column];
      Value& value = values_[column];
      PLAIT_TRY(ExchangeStart start,
                back ? one.start_exchange_back(part_of(part), std::move(saved), std::move(value))
                     : one.start_exchange(part_of(part), std::move(value), for_backward_));
      saved = std::move(start.saved);
      starts.push_back(std::move(start));
    }
    const auto members = static_cast<std::size_t>(model_.members);
    for (std::size_t to = 0; to < starts.size(); ++to) {
      const std::size_t first = to / members * members;
      Values came;
      for (std::size_t from = first; from < first + members; ++from)
        came.push_back(starts[from].exchange->share_for(static_cast<int>(to - first)));
      values_[to] = stage_of(to, stage).end_exchange(std::move(starts[to].carried),
                                                     starts[to].exchange->join(std::move(came)));
    }
    return {};
  }

  const SideBySide& model_;
  int microbatch_;
  bool for_backward_;
  Values values_;
  std::vector<std::vector<Values>> saved_;  // by stage and part
};

}  // namespace

Expected<void> run_side_by_side(const SideBySide& model, int microbatch, bool for_backward) {
  Run run(model, microbatch, for_backward);
  PLAIT_TRY_VOID(run.forward());
  if (for_backward) return run.backward();
  return {};
}

}  // namespace plait
