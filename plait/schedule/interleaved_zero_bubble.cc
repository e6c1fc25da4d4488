#include <algorithm>

#include "plait/placement/placements.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/interleaved.h"
#include "plait/schedule/shape.h"

namespace plait {
namespace {

void write_rank(std::vector<Action>& list, const InterleavedRank& lists, std::size_t warm_up,
                int rank, int below) {
  const std::size_t count = lists.forwards.size();
  list.resize(static_cast<std::size_t>(rank));
  std::size_t weights = 0;
  const auto weight = [&] {
    list.push_back(lists.backwards[weights++]);
    list.back().type = ActionType::kBackwardWeight;
  };
  for (std::size_t k = 0; k < count + warm_up; ++k) {
    if (k < count) list.push_back(lists.forwards[k]);
    if (k >= warm_up) {
      list.push_back(lists.backwards[k - warm_up]);
      if (k - warm_up >= static_cast<std::size_t>(rank)) weight();
    } else if (k == warm_up - 1) {
      list.resize(list.size() + static_cast<std::size_t>(below));
    }
  }
  while (weights < count) weight();
}

/// Delays every forward until the stage before it has run it in an earlier slot: idle slots only,
/// the order stays. Lists are walked in lock step.
void add_idle_slots(Schedule& schedule) {
  const auto microbatches = static_cast<std::size_t>(schedule.microbatches);
  std::vector<bool> done(static_cast<std::size_t>(schedule.placement.stages()) * microbatches);
  const auto cell = [&](int stage, int mb) {
    return static_cast<std::size_t>(stage) * microbatches + static_cast<std::size_t>(mb);
  };
  std::vector<std::vector<Action>> spaced(schedule.ranks.size());
  std::vector<std::size_t> next(schedule.ranks.size());
  std::vector<std::size_t> now_done;
  for (bool left = true; left;) {
    left = false;
    now_done.clear();
    for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
      if (next[rank] == schedule.ranks[rank].size()) continue;
      left = true;
      const Action& action = schedule.ranks[rank][next[rank]];
      if (action.type == ActionType::kForward) {
        if (action.stage > 0 && !done[cell(action.stage - 1, action.microbatch)]) {
          spaced[rank].push_back({});
          continue;
        }
        now_done.push_back(cell(action.stage, action.microbatch));
      }
      spaced[rank].push_back(action);
      ++next[rank];
    }
    for (const std::size_t at : now_done) done[at] = true;
  }
  schedule.ranks = std::move(spaced);
}

}  // namespace

Expected<Schedule> generate_interleaved_zero_bubble(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("interleaved-zero-bubble", shape, 0));
  PLAIT_TRY_VOID(check_interleaved_rounds("interleaved-zero-bubble", shape));
  PLAIT_TRY(Placement placement, place_loop(shape.ranks, shape.ranks * shape.chunks));
  Schedule schedule =
      empty_schedule("interleaved-zero-bubble", std::move(placement), shape.microbatches);
  const std::vector<int> rounds = interleaved_rounds(shape);
  for (int rank = 0; rank < shape.ranks; ++rank) {
    const InterleavedRank lists = interleaved_rank(shape, rounds, rank);
    const int below = shape.ranks - 1 - rank;
    const std::size_t warm_up =
        std::min(static_cast<std::size_t>((shape.chunks - 1) * rounds.front() + below),
                 lists.forwards.size());
    write_rank(schedule.ranks[static_cast<std::size_t>(rank)], lists, warm_up, rank, below);
  }
  add_idle_slots(schedule);
  return schedule;
}

}  // namespace plait
