#include "plait/sim/sensitivity.h"

#include <array>
#include <cmath>

#include "plait/sim/simulate.h"

namespace plait {
namespace {

constexpr int kSteps = 1000;  // of RankSensitivity::kMostSlack

void scale(Nanoseconds& time, double factor) {
  time = static_cast<Nanoseconds>(std::llround(static_cast<double>(time) * factor));
}

std::array<std::vector<Nanoseconds>*, 5> compute_of(ActionCosts& actions) {
  return {&actions.forward, &actions.backward_input, &actions.backward_weight, &actions.backward,
          &actions.recompute};
}

/// All times in parts of a nanosecond, so that a share of a few nanoseconds is not rounded away.
CostModel in_parts(CostModel costs, Nanoseconds parts) {
  for (std::vector<Nanoseconds>* times : compute_of(costs.actions)) {
    for (Nanoseconds& time : *times) time *= parts;
  }
  for (std::vector<Nanoseconds>* times : {&costs.unshard, &costs.reshard, &costs.reduce_grad}) {
    for (Nanoseconds& time : *times) time *= parts;
  }
  costs.actions.hop *= parts;
  return costs;
}

Expected<Nanoseconds> makespan_with(const VerifiedSchedule& schedule, CostModel costs, int rank,
                                    double slower) {
  for (const int stage : schedule.schedule().placement.stages_of(rank)) {
    for (std::vector<Nanoseconds>* times : compute_of(costs.actions)) {
      if (!times->empty()) scale((*times)[static_cast<std::size_t>(stage)], 1 + slower);
    }
  }
  PLAIT_TRY(const Prediction prediction, simulate(schedule, costs));
  return prediction.makespan_ns;
}

}  // namespace

Expected<std::vector<RankSensitivity>> rank_sensitivity(const VerifiedSchedule& schedule,
                                                        const CostModel& costs, double slower) {
  const Placement& placement = schedule.schedule().placement;
  if (placement.copies > 1) {
    return fail(ErrorCode::kInvalidInput,
                "costs are those of stages, and with two copies no stage is one rank's alone",
                schedule.schedule().name);
  }
  PLAIT_TRY_VOID(check_cost_model(costs, schedule.schedule()));
  const bool rounded =
      costs.network || costs.collectives || costs.pairs.pricing != PairPricing::kSequence;
  constexpr Nanoseconds kParts = 1000;
  const Nanoseconds parts = rounded ? 1 : kParts;
  const CostModel fine = in_parts(costs, parts);
  PLAIT_TRY(const Prediction base, simulate(schedule, fine));
  std::vector<RankSensitivity> result;
  for (int rank = 0; rank < placement.ranks; ++rank) {
    RankSensitivity& one = result.emplace_back();
    PLAIT_TRY(one.makespan_ns, makespan_with(schedule, fine, rank, slower));
    one.makespan_ns = (one.makespan_ns + parts / 2) / parts;
    int no_longer = 0;        // at so many steps of slack the makespan is the same,
    int longer = kSteps + 1;  // at so many it is not, or it is not asked
    while (longer - no_longer > 1) {
      const int middle = (no_longer + longer) / 2;
      const double share = RankSensitivity::kMostSlack * middle / kSteps;
      PLAIT_TRY(const Nanoseconds makespan, makespan_with(schedule, fine, rank, share));
      (makespan <= base.makespan_ns ? no_longer : longer) = middle;
    }
    one.slack = RankSensitivity::kMostSlack * no_longer / kSteps;
  }
  return result;
}

}  // namespace plait
