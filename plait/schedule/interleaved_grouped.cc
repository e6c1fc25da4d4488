#include <algorithm>

#include "plait/placement/placements.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/interleaved.h"
#include "plait/schedule/shape.h"

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
  for (int rank = 0; rank < shape.ranks; ++rank) {
    const InterleavedRank lists = interleaved_rank(shape, rounds, rank);
    const std::size_t count = lists.forwards.size();
    std::vector<Action>& list = schedule.ranks[static_cast<std::size_t>(rank)];
    std::size_t forwards = std::min(
        static_cast<std::size_t>((shape.chunks - 1) * rounds.front() + shape.ranks - rank), count);
    list.assign(lists.forwards.begin(),
                lists.forwards.begin() + static_cast<std::ptrdiff_t>(forwards));
    for (const Action& backward : lists.backwards) {
      list.push_back(backward);
      list.push_back(backward);
      list.back().type = ActionType::kBackwardWeight;
      if (forwards < count) list.push_back(lists.forwards[forwards++]);
    }
  }
  return schedule;
}

}  // namespace plait
