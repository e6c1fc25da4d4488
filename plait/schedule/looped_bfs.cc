#include "plait/ir/placements.h"
#include "plait/schedule/compute_action.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/shape_checks.h"

namespace plait {

Expected<Schedule> generate_looped_bfs(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("looped-bfs", shape, 0));
  const int ranks = shape.ranks;
  PLAIT_TRY(Placement placement, place_loop(ranks, ranks * shape.chunks));
  Schedule schedule = empty_schedule("looped-bfs", std::move(placement), shape.microbatches);
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<Action>& list = schedule.ranks[static_cast<std::size_t>(rank)];
    const int idle = 2 * (ranks - 1 - rank);
    const std::size_t forwards =
        static_cast<std::size_t>(shape.chunks) * static_cast<std::size_t>(shape.microbatches);
    list.reserve(static_cast<std::size_t>(rank + idle) + 2 * forwards);
    list.resize(static_cast<std::size_t>(rank));
    for (int chunk = 0; chunk < shape.chunks; ++chunk) {
      for (int mb = 0; mb < shape.microbatches; ++mb)
        list.push_back(compute(ActionType::kForward, chunk * ranks + rank, mb));
    }
    list.resize(list.size() + static_cast<std::size_t>(idle));
    for (int chunk = shape.chunks - 1; chunk >= 0; --chunk) {
      for (int mb = shape.microbatches - 1; mb >= 0; --mb)
        list.push_back(compute(ActionType::kBackward, chunk * ranks + rank, mb));
    }
  }
  return schedule;
}

}  // namespace plait
