#include "plait/ir/placements.h"
#include "plait/schedule/compute_action.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/shape_checks.h"

namespace plait {

Expected<Schedule> generate_gpipe(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("gpipe", shape, 1));
  PLAIT_TRY(Placement placement, place_loop(shape.ranks, shape.ranks));
  Schedule schedule = empty_schedule("gpipe", std::move(placement), shape.microbatches);
  for (int rank = 0; rank < shape.ranks; ++rank) {
    std::vector<Action>& list = schedule.ranks[static_cast<std::size_t>(rank)];
    list.reserve(2 * static_cast<std::size_t>(shape.microbatches));
    for (int mb = 0; mb < shape.microbatches; ++mb)
      list.push_back(compute(ActionType::kForward, rank, mb));
    for (int mb = 0; mb < shape.microbatches; ++mb)
      list.push_back(compute(ActionType::kBackward, rank, mb));
  }
  return schedule;
}

}  // namespace plait
