#include "plait/schedule/interleaved.h"

#include <fmt/core.h>

#include <algorithm>

#include "plait/ir/placements.h"
#include "plait/schedule/shape_checks.h"

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

Expected<Schedule> generate_interleaved_1f1b(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("interleaved-1f1b", shape, 0));
  PLAIT_TRY_VOID(check_interleaved_rounds("interleaved-1f1b", shape));
  const int stages = shape.ranks * shape.chunks;
  PLAIT_TRY(Placement placement, place_loop(shape.ranks, stages));
  Schedule schedule = empty_schedule("interleaved-1f1b", std::move(placement), shape.microbatches);
  const std::vector<int> rounds = interleaved_rounds(shape);
  const std::size_t count =
      static_cast<std::size_t>(shape.chunks) * static_cast<std::size_t>(shape.microbatches);
  for (int rank = 0; rank < shape.ranks; ++rank) {
    InterleavedWalk forwards(shape, rounds, rank, ActionType::kForward);
    InterleavedWalk backwards(shape, rounds, rank, ActionType::kBackward);
    const int below = shape.ranks - 1 - rank;
    const std::size_t warm_up =
        std::min(static_cast<std::size_t>((shape.chunks - 1) * rounds.front() + 2 * below), count);
    const int wait = warm_up == 0 ? 0 : stages + 2 * below - static_cast<int>(warm_up) - rank;
    const auto waited = static_cast<std::size_t>(std::max(0, wait));
    std::vector<Action>& list = schedule.ranks[static_cast<std::size_t>(rank)];
    list.reserve(static_cast<std::size_t>(rank) + waited + warm_up + 2 * count);
    list.resize(static_cast<std::size_t>(rank));
    for (std::size_t k = 0; k < warm_up; ++k) list.push_back(forwards.next());
    list.resize(list.size() + waited);
    for (std::size_t k = 0; k < count; ++k) {
      list.push_back(k + warm_up < count ? forwards.next() : Action{});
      list.push_back(backwards.next());
    }
  }
  return schedule;
}

}  // namespace plait
