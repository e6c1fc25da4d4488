#include <algorithm>

#include "plait/ir/placements.h"
#include "plait/schedule/compute_action.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/shape_checks.h"

namespace plait {

Expected<Schedule> generate_forward_only(const Placement& placement, int microbatches) {
  PLAIT_TRY_VOID(check_shape("forward-only", {placement.ranks, microbatches, 1}, 0));
  Schedule schedule = empty_schedule("forward-only", placement, microbatches);
  schedule.forward_only = true;
  for (const int rank : placement.rank_of_stage) {
    std::vector<Action>& list = schedule.ranks[static_cast<std::size_t>(rank)];
    list.reserve(list.capacity() + static_cast<std::size_t>(microbatches));
  }
  // Micro-batch mb reaches stage s at time mb + s: in this order no rank waits for one behind it.
  const int stages = placement.stages();
  for (int time = 0; time < stages + microbatches - 1; ++time) {
    for (int stage = std::max(0, time - microbatches + 1); stage <= std::min(time, stages - 1);
         ++stage) {
      schedule.ranks[static_cast<std::size_t>(placement.rank_of(stage))].push_back(
          compute(ActionType::kForward, stage, time - stage));
    }
  }
  return schedule;
}

Expected<Schedule> generate_forward_only(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("forward-only", shape, 0));
  PLAIT_TRY(Placement placement, place_loop(shape.ranks, shape.ranks * shape.chunks));
  return generate_forward_only(placement, shape.microbatches);
}

}  // namespace plait
