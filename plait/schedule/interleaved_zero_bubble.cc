#include <algorithm>

#include "plait/ir/placements.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/interleaved.h"
#include "plait/schedule/shape_checks.h"

namespace plait {
namespace {

/// What one rank does, without its idle slots.
void write_rank(std::vector<Action>& list, const ScheduleShape& shape,
                const std::vector<int>& rounds, int rank, std::size_t warm_up) {
  const std::size_t count =
      static_cast<std::size_t>(shape.chunks) * static_cast<std::size_t>(shape.microbatches);
  InterleavedWalk forwards(shape, rounds, rank, ActionType::kForward);
  InterleavedWalk inputs(shape, rounds, rank, ActionType::kBackwardInput);
  InterleavedWalk weights(shape, rounds, rank, ActionType::kBackwardWeight);
  const std::size_t lag = std::min(static_cast<std::size_t>(rank), count);
  list.reserve(3 * count);
  for (std::size_t k = 0; k < warm_up; ++k) list.push_back(forwards.next());
  for (std::size_t k = 0; k < count; ++k) {
    if (k + warm_up < count) list.push_back(forwards.next());
    list.push_back(inputs.next());
    if (k >= lag) list.push_back(weights.next());
  }
  for (std::size_t k = 0; k < lag; ++k) list.push_back(weights.next());
}

/// How many idle slots come before one of a rank's actions.
struct IdleSlots {
  std::size_t position = 0;
  std::size_t slots = 0;
};

void insert_idle(std::vector<Action>& list, const std::vector<IdleSlots>& idle) {
  std::size_t size = list.size();
  for (const IdleSlots& slots : idle) size += slots.slots;
  std::vector<Action> spaced;
  spaced.reserve(size);
  std::size_t next = 0;
  const auto copy_to = [&](std::size_t end) {
    spaced.insert(spaced.end(), list.begin() + static_cast<std::ptrdiff_t>(next),
                  list.begin() + static_cast<std::ptrdiff_t>(end));
    next = end;
  };
  for (const IdleSlots& slots : idle) {
    copy_to(slots.position);
    spaced.resize(spaced.size() + slots.slots);
  }
  copy_to(list.size());
  list = std::move(spaced);
}

/// Walks the lists in lock step, `idle` included, and delays every forward until the stage before
/// it has run it in an earlier slot: more idle slots, the order stays.
void delay_forwards(const Schedule& schedule, std::vector<std::vector<IdleSlots>>& idle) {
  const auto microbatches = static_cast<std::size_t>(schedule.microbatches);
  std::vector<bool> done(static_cast<std::size_t>(schedule.placement.stages()) * microbatches);
  const auto cell = [&](int stage, int mb) {
    return static_cast<std::size_t>(stage) * microbatches + static_cast<std::size_t>(mb);
  };
  struct Place {
    std::size_t next = 0;     // action
    std::size_t planned = 0;  // of the idle slots there at the start
    std::size_t waited = 0;   // slots of the planned one
  };
  std::vector<Place> places(schedule.ranks.size());
  const std::vector<std::vector<IdleSlots>> given = idle;
  for (std::vector<IdleSlots>& slots : idle) slots.clear();
  const auto wait = [&](std::size_t rank) {
    std::vector<IdleSlots>& slots = idle[rank];
    if (slots.empty() || slots.back().position != places[rank].next)
      slots.push_back({places[rank].next, 0});
    ++slots.back().slots;
  };
  std::vector<std::size_t> now_done;
  for (bool left = true; left;) {
    left = false;
    now_done.clear();
    for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
      Place& place = places[rank];
      if (place.next == schedule.ranks[rank].size()) continue;
      left = true;
      if (place.planned < given[rank].size() && given[rank][place.planned].position == place.next) {
        if (place.waited < given[rank][place.planned].slots) {
          ++place.waited;
          wait(rank);
          continue;
        }
        ++place.planned;
        place.waited = 0;
      }
      const Action& action = schedule.ranks[rank][place.next];
      if (action.type == ActionType::kForward) {
        if (action.stage > 0 && !done[cell(action.stage - 1, action.microbatch)]) {
          wait(rank);
          continue;
        }
        now_done.push_back(cell(action.stage, action.microbatch));
      }
      ++place.next;
    }
    for (const std::size_t at : now_done) done[at] = true;
  }
}

}  // namespace

Expected<Schedule> generate_interleaved_zero_bubble(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("interleaved-zero-bubble", shape, 0));
  PLAIT_TRY_VOID(check_interleaved_rounds("interleaved-zero-bubble", shape));
  PLAIT_TRY(Placement placement, place_loop(shape.ranks, shape.ranks * shape.chunks));
  Schedule schedule =
      empty_schedule("interleaved-zero-bubble", std::move(placement), shape.microbatches);
  const std::vector<int> rounds = interleaved_rounds(shape);
  const std::size_t count =
      static_cast<std::size_t>(shape.chunks) * static_cast<std::size_t>(shape.microbatches);
  std::vector<std::vector<IdleSlots>> idle(schedule.ranks.size());
  for (int rank = 0; rank < shape.ranks; ++rank) {
    const int below = shape.ranks - 1 - rank;
    const std::size_t warm_up =
        std::min(static_cast<std::size_t>((shape.chunks - 1) * rounds.front() + below), count);
    const auto index = static_cast<std::size_t>(rank);
    write_rank(schedule.ranks[index], shape, rounds, rank, warm_up);
    // Until the first input can be there, and the first gradient.
    if (rank > 0) idle[index].push_back({0, index});
    if (warm_up > 0 && below > 0) idle[index].push_back({warm_up, static_cast<std::size_t>(below)});
  }
  delay_forwards(schedule, idle);
  for (std::size_t rank = 0; rank < idle.size(); ++rank)
    insert_idle(schedule.ranks[rank], idle[rank]);
  return schedule;
}

}  // namespace plait
