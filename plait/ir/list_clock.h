/// ListClock: when each compute action runs if every rank runs its list in order.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <vector>

#include "plait/base/units.h"
#include "plait/ir/costs.h"
#include "plait/ir/direction.h"
#include "plait/ir/schedule.h"

namespace plait {

/// Where a run stands still: the lowest rank that cannot go on, and its position in its list.
struct ListStop {
  std::size_t rank = 0;
  std::size_t position = 0;
};

/// An action begins when the one before it on its rank has ended and its inputs are there:
///   F of stage s      F of s - 1
///   I or B of s       F of s, and I or B of s + 1
///   W of s            I of s
/// A value is there when its maker ends, costs.hop later on another rank. A recompute runs before
/// its I or B while the gradient is on its way. Members of a pair run in sequence; messages and
/// parameter actions take no time.
class ListClock {
 public:
  /// Both must outlive it. Every compute action's stage and micro-batch are in range.
  ListClock(const Schedule& schedule, const ActionCosts& costs)
      : schedule_(schedule),
        costs_(costs),
        stages_(schedule.placement.stages()),
        next_(schedule.ranks.size()),
        free_(schedule.ranks.size()) {
    const auto cells =
        static_cast<std::size_t>(stages_) * static_cast<std::size_t>(schedule.microbatches);
    for (auto& ends : ends_) ends.assign(cells, kNotRun);
  }

  /// Calls visit(rank, position, begin, end) for each compute action, on each rank in list order.
  /// Once. Cost: O(A) for A actions, two times for each (stage, micro-batch).
  template <typename Visit>
  std::optional<ListStop> run(Visit visit) {
    for (std::size_t rank = next_.size(); rank-- > 0;) awake_.push_back(rank);
    while (!awake_.empty()) {
      const std::size_t rank = awake_.back();
      awake_.pop_back();
      advance(rank, visit);
    }
    for (std::size_t rank = 0; rank < next_.size(); ++rank) {
      if (next_[rank] < schedule_.ranks[rank].size()) return ListStop{rank, next_[rank]};
    }
    return std::nullopt;
  }

 private:
  static constexpr Nanoseconds kNotRun = -1;

  /// Runs the rank up to its first action that lacks an input.
  template <typename Visit>
  void advance(std::size_t rank, Visit& visit) {
    const std::vector<Action>& list = schedule_.ranks[rank];
    for (; next_[rank] < list.size(); ++next_[rank]) {
      const Action& action = list[next_[rank]];
      if (!is_compute(action.type)) continue;
      const Nanoseconds ready = inputs_there(rank, action);
      if (ready == kNotRun) return;
      if (passes_gradient(action.type))
        free_[rank] += costs_.recompute_of(static_cast<std::size_t>(action.stage));
      const Nanoseconds begin = std::max(free_[rank], ready);
      free_[rank] = begin + costs_.length_of(action);
      visit(rank, next_[rank], begin, free_[rank]);
      if (passes_value(action.type)) finish(rank, action);
    }
  }

  void finish(std::size_t rank, const Action& action) {
    const Direction direction = direction_of(action.type);
    end(direction, action.stage, action.microbatch) = free_[rank];
    const int reader = stage_after(direction, action.stage);
    if (reader >= 0 && reader < stages_) wake(rank, reader, action.microbatch);
  }

  /// The reader's rank may go on if its next action is the reader.
  void wake(std::size_t rank, int stage, int microbatch) {
    const auto reader = static_cast<std::size_t>(schedule_.rank_of(stage, microbatch));
    if (reader == rank || next_[reader] == schedule_.ranks[reader].size()) return;
    const Action& next = schedule_.ranks[reader][next_[reader]];
    if (next.stage == stage && next.microbatch == microbatch) awake_.push_back(reader);
  }

  /// kNotRun if an input is not made yet.
  Nanoseconds inputs_there(std::size_t rank, const Action& action) {
    const int stage = action.stage;
    const int mb = action.microbatch;
    if (action.type == ActionType::kBackwardWeight) return end(Direction::kBackward, stage, mb);
    if (action.type == ActionType::kForward)
      return stage == 0 ? 0 : arrival(rank, Direction::kForward, stage - 1, mb);
    const Nanoseconds own = end(Direction::kForward, stage, mb);
    if (stage == stages_ - 1 || own == kNotRun) return own;
    const Nanoseconds gradient = arrival(rank, Direction::kBackward, stage + 1, mb);
    return gradient == kNotRun ? kNotRun : std::max(own, gradient);
  }

  Nanoseconds arrival(std::size_t rank, Direction direction, int stage, int mb) {
    const Nanoseconds made = end(direction, stage, mb);
    const bool here = static_cast<std::size_t>(schedule_.rank_of(stage, mb)) == rank;
    return made == kNotRun || here ? made : made + costs_.hop;
  }

  /// When the value that a stage makes in a direction was made.
  Nanoseconds& end(Direction direction, int stage, int mb) {
    const std::size_t cell =
        static_cast<std::size_t>(stage) * static_cast<std::size_t>(schedule_.microbatches) +
        static_cast<std::size_t>(mb);
    return ends_[static_cast<std::size_t>(direction)][cell];
  }

  const Schedule& schedule_;
  const ActionCosts& costs_;
  int stages_;
  std::vector<std::size_t> next_;                 // by rank: position in its list
  std::vector<Nanoseconds> free_;                 // by rank: the end of its last action
  std::vector<std::size_t> awake_;                // ranks that may be able to go on
  std::array<std::vector<Nanoseconds>, 2> ends_;  // by Direction and (stage, micro-batch)
};

}  // namespace plait
