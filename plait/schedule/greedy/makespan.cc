#include "plait/schedule/greedy/makespan.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "plait/ir/list_clock.h"

namespace plait {
namespace {

Expected<void> check_ranges(const Schedule& schedule) {
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    for (const Action& action : schedule.ranks[rank]) {
      if (!is_compute(action.type)) continue;
      if (action.stage >= 0 && action.stage < schedule.placement.stages() &&
          action.microbatch >= 0 && action.microbatch < schedule.microbatches)
        continue;
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{}: stage {}, micro-batch {} on rank {} is outside the schedule",
                              schedule.name, action.stage, action.microbatch, rank));
    }
  }
  return {};
}

Expected<Nanoseconds> makespan_of(const Schedule& schedule, const ActionCosts& costs) {
  Nanoseconds makespan = 0;
  const std::optional<ListStop> stop =
      ListClock(schedule, costs)
          .run([&](std::size_t /*rank*/, std::size_t /*position*/, Nanoseconds /*begin*/,
                   Nanoseconds end) { makespan = std::max(makespan, end); });
  if (!stop) return makespan;
  const Action& action = schedule.ranks[stop->rank][stop->position];
  return fail(
      ErrorCode::kInvalidInput,
      fmt::format("{}: rank {} waits for ever at position {}, stage {}, micro-batch {}",
                  schedule.name, stop->rank, stop->position, action.stage, action.microbatch));
}

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
  PLAIT_TRY_VOID(check_ranges(schedule));
  PLAIT_TRY(const Nanoseconds makespan, makespan_of(schedule, costs));
  return OrderPrice{makespan, peak_activations(schedule)};
}

}  // namespace plait
