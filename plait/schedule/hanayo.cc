#include <fmt/core.h>

#include "plait/ir/placements.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/greedy/list_scheduler.h"
#include "plait/schedule/interleaved.h"
#include "plait/schedule/shape_checks.h"

namespace plait {

Expected<Schedule> generate_hanayo(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("hanayo", shape, 0));
  if (shape.chunks % 2 != 0) {
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("hanayo: chunks is {}, needs an even number, two a wave", shape.chunks));
  }
  PLAIT_TRY_VOID(check_microbatches("hanayo", shape,
                                    shape.any_m || shape.microbatches % shape.ranks == 0,
                                    fmt::format("a multiple of the {} ranks", shape.ranks)));
  PLAIT_TRY(Placement placement, place_v(shape.ranks, shape.ranks * shape.chunks));
  Schedule schedule = empty_schedule("hanayo", std::move(placement), shape.microbatches);
  ListPolicy policy;
  policy.split = false;
  const ActionCosts costs = unit_costs(schedule.placement.stages());
  const std::size_t actions =
      2 * static_cast<std::size_t>(shape.chunks) * static_cast<std::size_t>(shape.microbatches);
  for (std::vector<Action>& list : schedule.ranks) list.reserve(actions);
  for (const int size : interleaved_rounds(shape)) {
    policy.microbatches = size;
    PLAIT_TRY_VOID(append_list_schedule(schedule, costs, policy));
    policy.first_microbatch += size;
  }
  return schedule;
}

}  // namespace plait
