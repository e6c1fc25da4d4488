#include <fmt/format.h>

#include <array>
#include <optional>

#include "plait/placement/placements.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/list_scheduler.h"
#include "plait/schedule/shape.h"

namespace plait {
namespace {

/// The best of all policies of the list scheduler; the first of equals.
Expected<Schedule> best_order(const Schedule& empty, const ActionCosts& costs, int activations) {
  std::optional<Schedule> best;
  Nanoseconds best_makespan = 0;
  Error error;
  for (const WeightRule weight : {WeightRule::kAlways, WeightRule::kFits, WeightRule::kHalf}) {
    for (const bool alternate : {false, true}) {
      for (const bool low_memory_first : {false, true}) {
        Schedule schedule = empty;
        ListPolicy policy;
        policy.weight = weight;
        policy.alternate = alternate;
        policy.low_memory_first = low_memory_first;
        policy.activations = activations;
        policy.microbatches = empty.microbatches;
        const Expected<Nanoseconds> makespan = append_list_schedule(schedule, costs, policy);
        if (!makespan) {
          error = makespan.error();
        } else if (!best || *makespan < best_makespan) {
          best = std::move(schedule);
          best_makespan = *makespan;
        }
      }
    }
  }
  if (!best) return tl::unexpected<Error>(std::move(error));
  return *std::move(best);
}

Expected<Schedule> make(std::string_view name, const ScheduleShape& shape, Placement placement,
                        int default_activations) {
  const Schedule empty = empty_schedule(name, std::move(placement), shape.microbatches);
  const int stages = empty.placement.stages();
  const ActionCosts costs = shape.costs ? *shape.costs : unit_costs(stages);
  if (costs.forward.size() != static_cast<std::size_t>(stages)) {
    return fail(ErrorCode::kInvalidInput, fmt::format("{}: costs are for {} stages, needs {}", name,
                                                      costs.forward.size(), stages));
  }
  const int activations = shape.activations > 0 ? shape.activations : default_activations;
  return best_order(empty, costs, activations);
}

}  // namespace

Expected<Schedule> generate_zb_auto(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("zb-auto", shape, 1));
  PLAIT_TRY(Placement placement, place_loop(shape.ranks, shape.ranks));
  return make("zb-auto", shape, std::move(placement), 2 * shape.ranks - 1);
}

Expected<Schedule> generate_zbv_auto(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("zbv-auto", shape, 2));
  PLAIT_TRY(Placement placement, place_v(shape.ranks, 2 * shape.ranks));
  return make("zbv-auto", shape, std::move(placement), 2 * shape.ranks);
}

}  // namespace plait
