#include "plait/sim/bound/price.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "plait/passes/lowering.h"
#include "plait/verify/prove.h"

namespace plait {

Nanoseconds Price::worst_idle() const {
  Nanoseconds worst = 0;
  for (const RankPrediction& rank : prediction.ranks) worst = std::max(worst, rank.idle_ns);
  return worst;
}

double Price::share_above_bound() const {
  if (bound.makespan == 0) return 0;
  return static_cast<double>(above_bound()) / static_cast<double>(bound.makespan);
}

std::int64_t Price::worst_peak() const {
  std::int64_t worst = 0;
  for (const RankPrediction& rank : prediction.ranks)
    worst = std::max(worst, (has_bytes ? rank.peak_bytes : rank.peak_activations).amount);
  return worst;
}

std::vector<int> activation_slots(const Schedule& schedule) {
  std::vector<int> slots;
  for (const std::vector<Action>& list : schedule.ranks) {
    int live = 0, most = 0;
    for (std::size_t begin = 0; begin < list.size(); begin += 1U + list[begin].members) {
      int ends = 0;
      for (std::size_t i = begin; i <= begin + list[begin].members; ++i) {
        live += list[i].type == ActionType::kForward ? 1 : 0;
        ends += list[i].type == ActionType::kBackward || list[i].type == ActionType::kBackwardWeight
                    ? 1
                    : 0;
      }
      most = std::max(most, live);
      live -= ends;
    }
    slots.push_back(most);
  }
  return slots;
}

Expected<Schedule> as_priced(Schedule schedule, const CostModel& costs) {
  if (!costs.network || is_lowered(schedule)) return schedule;
  return insert_messages(std::move(schedule));
}

Expected<Price> price(Schedule schedule, const CostModel& costs, const SimulateOptions& options) {
  PLAIT_TRY(schedule, as_priced(std::move(schedule), costs));
  Price price;
  PLAIT_TRY(price.bound, best_bound(bound_input(schedule, costs)));
  price.schedule = schedule.name;
  price.ranks = schedule.placement.ranks;
  price.microbatches = schedule.microbatches;
  price.chunks = (schedule.placement.stages() + price.ranks - 1) / price.ranks;
  price.has_bytes = costs.has_bytes();
  PLAIT_TRY(const VerifiedSchedule verified, prove(std::move(schedule)));
  price.activation_slots = activation_slots(verified.schedule());
  PLAIT_TRY(price.prediction, simulate(verified, costs, options));
  return price;
}

SchedulePrice schedule_price(CostModel costs, std::optional<int> max_activations) {
  return [costs = std::move(costs),
          most = max_activations](const Schedule& candidate) -> Expected<Nanoseconds> {
    PLAIT_TRY(const Price priced, price(candidate, costs, {}));
    for (const RankPrediction& rank : priced.prediction.ranks) {
      if (most && rank.peak_activations.amount > *most) {
        return fail(ErrorCode::kCheckFailed,
                    fmt::format("a rank holds {} activations, at most {} are allowed",
                                rank.peak_activations.amount, *most));
      }
    }
    return priced.prediction.makespan_ns;
  };
}

}  // namespace plait
