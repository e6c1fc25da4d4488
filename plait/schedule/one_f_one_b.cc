#include <fmt/core.h>

#include <algorithm>

#include "plait/ir/placements.h"
#include "plait/schedule/compute_action.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/shape_checks.h"

namespace plait {

Expected<Schedule> generate_one_f_one_b(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("1f1b", shape, 1));
  const int ranks = shape.ranks;
  const int microbatches = shape.microbatches;
  PLAIT_TRY_VOID(check_microbatches("1f1b", shape, shape.any_m || microbatches >= ranks,
                                    fmt::format("at least {}, the number of ranks", ranks)));
  PLAIT_TRY(Placement placement, place_loop(ranks, ranks));
  Schedule schedule = empty_schedule("1f1b", std::move(placement), microbatches);
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<Action>& list = schedule.ranks[static_cast<std::size_t>(rank)];
    list.reserve(2 * static_cast<std::size_t>(microbatches));
    const int warm_up = std::min(microbatches, ranks - 1 - rank);
    for (int mb = 0; mb < warm_up; ++mb) list.push_back(compute(ActionType::kForward, rank, mb));
    for (int mb = 0; mb < microbatches; ++mb) {
      if (mb + warm_up < microbatches)
        list.push_back(compute(ActionType::kForward, rank, mb + warm_up));
      list.push_back(compute(ActionType::kBackward, rank, mb));
    }
  }
  return schedule;
}

}  // namespace plait
