#include <algorithm>

#include "plait/ir/placements.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/interleaved.h"
#include "plait/schedule/shape_checks.h"

namespace plait {

// In unit slots rank r's k-th forward stands at 3k + r and its k-th I at 3((V-1)P + P + k) - 2 -
// 2r, W behind it: (V-1)P + P - r forwards come before the first I.
Expected<Schedule> generate_interleaved_grouped(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("interleaved-grouped", shape, 0));
  PLAIT_TRY_VOID(check_interleaved_rounds("interleaved-grouped", shape));
  PLAIT_TRY(Placement placement, place_loop(shape.ranks, shape.ranks * shape.chunks));
  Schedule schedule =
      empty_schedule("interleaved-grouped", std::move(placement), shape.microbatches);
  const std::vector<int> rounds = interleaved_rounds(shape);
  const std::size_t count =
      static_cast<std::size_t>(shape.chunks) * static_cast<std::size_t>(shape.microbatches);
  for (int rank = 0; rank < shape.ranks; ++rank) {
    InterleavedWalk forwards(shape, rounds, rank, ActionType::kForward);
    InterleavedWalk backwards(shape, rounds, rank, ActionType::kBackwardInput);
    const int first = (shape.chunks - 1) * rounds.front() + shape.ranks - rank;
    const std::size_t warm_up = std::min(static_cast<std::size_t>(first), count);
    std::vector<Action>& list = schedule.ranks[static_cast<std::size_t>(rank)];
    list.reserve(3 * count);
    for (std::size_t k = 0; k < warm_up; ++k) list.push_back(forwards.next());
    for (std::size_t k = 0; k < count; ++k) {
      list.push_back(backwards.next());
      list.push_back(list.back());
      list.back().type = ActionType::kBackwardWeight;
      if (k + warm_up < count) list.push_back(forwards.next());
    }
  }
  return schedule;
}

}  // namespace plait
