#include "plait/schedule/greedy/makespan.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>

namespace plait {
namespace {

constexpr Nanoseconds kNotRun = -1;

class OrderClock {
 public:
  OrderClock(const Schedule& schedule, const ActionCosts& costs)
      : schedule_(schedule),
        costs_(costs),
        stages_(schedule.placement.stages()),
        positions_(schedule.ranks.size()),
        free_at_(schedule.ranks.size()) {
    const auto cells =
        static_cast<std::size_t>(stages_) * static_cast<std::size_t>(schedule.microbatches);
    forward_ends_.assign(cells, kNotRun);
    backward_ends_.assign(cells, kNotRun);
  }

  Expected<Nanoseconds> run() {
    std::vector<std::size_t> awake;
    for (std::size_t rank = schedule_.ranks.size(); rank-- > 0;) awake.push_back(rank);
    while (!awake.empty()) {
      const std::size_t rank = awake.back();
      awake.pop_back();
      PLAIT_TRY_VOID(run_rank(rank, awake));
    }
    for (std::size_t rank = 0; rank < positions_.size(); ++rank) {
      if (positions_[rank] < schedule_.ranks[rank].size()) return stands_still(rank);
    }
    return *std::max_element(free_at_.begin(), free_at_.end());
  }

 private:
  /// Runs the rank as far as it comes; `awake` gets the ranks that may go on for it.
  Expected<void> run_rank(std::size_t rank, std::vector<std::size_t>& awake) {
    const std::vector<Action>& list = schedule_.ranks[rank];
    for (; positions_[rank] < list.size(); ++positions_[rank]) {
      const Action& action = list[positions_[rank]];
      if (!is_compute(action.type)) continue;
      if (action.stage < 0 || action.stage >= stages_ || action.microbatch < 0 ||
          action.microbatch >= schedule_.microbatches) {
        return fail(ErrorCode::kInvalidInput,
                    fmt::format("{}: stage {}, micro-batch {} on rank {} is outside the schedule",
                                schedule_.name, action.stage, action.microbatch, rank));
      }
      const Nanoseconds ready = ready_at(rank, action);
      if (ready == kNotRun) return {};
      if (passes_gradient(action.type))
        free_at_[rank] += costs_.recompute_of(static_cast<std::size_t>(action.stage));
      free_at_[rank] = std::max(free_at_[rank], ready) + length(action);
      if (action.type == ActionType::kForward) {
        forward_ends_[cell(action.stage, action.microbatch)] = free_at_[rank];
        if (action.stage + 1 < stages_) wake(rank, action.stage + 1, action.microbatch, awake);
      } else if (passes_gradient(action.type)) {
        backward_ends_[cell(action.stage, action.microbatch)] = free_at_[rank];
        if (action.stage > 0) wake(rank, action.stage - 1, action.microbatch, awake);
      }
    }
    return {};
  }

  void wake(std::size_t rank, int stage, int microbatch, std::vector<std::size_t>& awake) const {
    const auto reader = static_cast<std::size_t>(schedule_.rank_of(stage, microbatch));
    if (reader == rank || positions_[reader] == schedule_.ranks[reader].size()) return;
    const Action& next = schedule_.ranks[reader][positions_[reader]];
    if (next.stage == stage && next.microbatch == microbatch) awake.push_back(reader);
  }

  Nanoseconds ready_at(std::size_t rank, const Action& action) const {
    const int stage = action.stage;
    const int mb = action.microbatch;
    if (action.type == ActionType::kBackwardWeight) return backward_ends_[cell(stage, mb)];
    if (action.type == ActionType::kForward)
      return stage == 0 ? 0 : arrival(rank, forward_ends_, stage - 1, mb);
    const Nanoseconds own = forward_ends_[cell(stage, mb)];
    if (stage == stages_ - 1 || own == kNotRun) return own;
    const Nanoseconds gradient = arrival(rank, backward_ends_, stage + 1, mb);
    return gradient == kNotRun ? kNotRun : std::max(own, gradient);
  }

  Nanoseconds arrival(std::size_t rank, const std::vector<Nanoseconds>& ends, int stage,
                      int mb) const {
    const Nanoseconds end = ends[cell(stage, mb)];
    const bool here = static_cast<std::size_t>(schedule_.rank_of(stage, mb)) == rank;
    return end == kNotRun || here ? end : end + costs_.hop;
  }

  Nanoseconds length(const Action& action) const {
    const auto stage = static_cast<std::size_t>(action.stage);
    switch (action.type) {
      case ActionType::kForward:
        return costs_.forward[stage];
      case ActionType::kBackwardInput:
        return costs_.backward_input[stage];
      case ActionType::kBackwardWeight:
        return costs_.backward_weight[stage];
      default:
        return costs_.backward[stage];
    }
  }

  std::size_t cell(int stage, int mb) const {
    return static_cast<std::size_t>(stage) * static_cast<std::size_t>(schedule_.microbatches) +
           static_cast<std::size_t>(mb);
  }

  tl::unexpected<Error> stands_still(std::size_t rank) const {
    const Action& action = schedule_.ranks[rank][positions_[rank]];
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("{}: rank {} waits for ever at position {}, stage {}, micro-batch {}",
                    schedule_.name, rank, positions_[rank], action.stage, action.microbatch));
  }

  const Schedule& schedule_;
  const ActionCosts& costs_;
  int stages_;
  std::vector<std::size_t> positions_;
  std::vector<Nanoseconds> free_at_;
  std::vector<Nanoseconds> forward_ends_;
  std::vector<Nanoseconds> backward_ends_;
};

}  // namespace

std::vector<int> peak_activations(const Schedule& schedule) {
  // Without a backward an F's own is dropped when the F ends.
  if (schedule.forward_only) return std::vector<int>(schedule.ranks.size(), 1);
  std::vector<int> peaks;
  for (const std::vector<Action>& list : schedule.ranks) {
    int live = 0;
    int peak = 0;
    for (const Action& action : list) {
      if (action.type == ActionType::kForward) peak = std::max(peak, ++live);
      if (action.type == ActionType::kBackward || action.type == ActionType::kBackwardWeight)
        --live;
    }
    peaks.push_back(peak);
  }
  return peaks;
}

Expected<void> check_costs(std::string_view name, const ActionCosts& costs, int stages) {
  for (const std::vector<Nanoseconds>* kind :
       {&costs.forward, &costs.backward_input, &costs.backward_weight, &costs.backward,
        &costs.recompute}) {
    if (kind == &costs.recompute && kind->empty()) continue;
    if (kind->size() != static_cast<std::size_t>(stages)) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{}: costs are for {} stages, needs {}", name, kind->size(), stages));
    }
    for (const Nanoseconds cost : *kind) {
      if (cost >= 0) continue;
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{}: a cost is {} ns, needs at least 0", name, cost));
    }
  }
  if (costs.hop >= 0) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("{}: hop is {} ns, needs at least 0", name, costs.hop));
}

Expected<OrderPrice> price_order(const Schedule& schedule, const ActionCosts& costs) {
  PLAIT_TRY_VOID(check_costs(schedule.name, costs, schedule.placement.stages()));
  PLAIT_TRY(const Nanoseconds makespan, OrderClock(schedule, costs).run());
  return OrderPrice{makespan, peak_activations(schedule)};
}

}  // namespace plait
