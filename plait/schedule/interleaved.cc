#include "plait/schedule/interleaved.h"

#include <fmt/format.h>

#include <algorithm>

#include "plait/placement/placements.h"
#include "plait/schedule/shape.h"

namespace plait {

std::vector<int> interleaved_rounds(const ScheduleShape& shape) {
  const int rounds = std::max(1, shape.microbatches / shape.ranks);
  std::vector<int> sizes;
  for (int round = 0; round < rounds; ++round)
    sizes.push_back(shape.microbatches / rounds + (round < shape.microbatches % rounds ? 1 : 0));
  return sizes;
}

Expected<void> check_interleaved_rounds(std::string_view name, const ScheduleShape& shape) {
  const int rounds = std::max(1, shape.microbatches / shape.ranks);
  return check_microbatches(
      name, shape, shape.any_m || shape.microbatches % rounds == 0,
      fmt::format("a multiple of its {} rounds of at least {}", rounds, shape.ranks));
}

InterleavedRank interleaved_rank(const ScheduleShape& shape, const std::vector<int>& rounds,
                                 int rank) {
  InterleavedRank lists;
  int first = 0;
  for (const int size : rounds) {
    for (int chunk = 0; chunk < shape.chunks; ++chunk) {
      const int down = chunk * shape.ranks + rank;
      const int up = (shape.chunks - 1 - chunk) * shape.ranks + rank;
      for (int mb = first; mb < first + size; ++mb) {
        lists.forwards.push_back(compute(ActionType::kForward, down, mb));
        lists.backwards.push_back(compute(ActionType::kBackwardInput, up, mb));
      }
    }
    first += size;
  }
  return lists;
}

Expected<Schedule> generate_interleaved_1f1b(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("interleaved-1f1b", shape, 0));
  PLAIT_TRY_VOID(check_interleaved_rounds("interleaved-1f1b", shape));
  const int stages = shape.ranks * shape.chunks;
  PLAIT_TRY(Placement placement, place_loop(shape.ranks, stages));
  Schedule schedule = empty_schedule("interleaved-1f1b", std::move(placement), shape.microbatches);
  const std::vector<int> rounds = interleaved_rounds(shape);
  for (int rank = 0; rank < shape.ranks; ++rank) {
    const InterleavedRank lists = interleaved_rank(shape, rounds, rank);
    const std::size_t count = lists.forwards.size();
    const int below = shape.ranks - 1 - rank;
    const std::size_t warm_up =
        std::min(static_cast<std::size_t>((shape.chunks - 1) * rounds.front() + 2 * below), count);
    std::vector<Action>& list = schedule.ranks[static_cast<std::size_t>(rank)];
    const auto idle = [&](int slots) {
      if (slots > 0) list.resize(list.size() + static_cast<std::size_t>(slots));
    };
    idle(rank);
    for (std::size_t k = 0; k < count + warm_up; ++k) {
      if (k < count)
        list.push_back(lists.forwards[k]);
      else
        idle(1);
      if (k >= warm_up) {
        list.push_back(lists.backwards[k - warm_up]);
        list.back().type = ActionType::kBackward;
      } else if (k == warm_up - 1) {
        idle(stages + 2 * below - static_cast<int>(warm_up) - rank);
      }
    }
  }
  return schedule;
}

}  // namespace plait
