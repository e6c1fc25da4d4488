#include "plait/sim/simulate.h"

#include "plait/sim/critical_path.h"
#include "plait/sim/engine.h"
#include "plait/sim/predicted_timeline.h"
#include "plait/sim/rank_totals.h"

namespace plait {
namespace {

/// RESHARD takes no link.
bool takes_collective(ActionType type) {
  return type == ActionType::kUnshard || type == ActionType::kReduceGrad;
}

}  // namespace

Expected<Prediction> simulate(const VerifiedSchedule& schedule, const CostModel& costs,
                              const SimulateOptions& options) {
  PLAIT_TRY_VOID(check_cost_model(costs, schedule.schedule()));
  if (costs.network && !schedule.lowered()) {
    return fail(ErrorCode::kInvalidInput,
                "links are priced, but the schedule has no sends and receives: needed one with its "
                "communication",
                schedule.schedule().name);
  }
  if (costs.collectives && !holds(schedule.schedule(), takes_collective)) {
    return fail(ErrorCode::kInvalidInput,
                "replicas are priced, but the schedule has no UNSHARD and no REDUCE_GRAD: needed "
                "one with them, as --lower makes it",
                schedule.schedule().name);
  }
  sim_detail::Engine engine(schedule.schedule(), costs);
  engine.run();
  Prediction prediction;
  sim_detail::add_up_ranks(engine, prediction);
  if (options.critical_path) prediction.critical_path = sim_detail::find_critical_path(engine);
  if (options.keep_timeline) prediction.timeline = sim_detail::predicted_timeline(engine);
  return prediction;
}

}  // namespace plait
