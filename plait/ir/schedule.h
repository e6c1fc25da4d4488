/// Placement and Schedule: for each rank, an ordered list of actions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "plait/ir/action.h"

namespace plait {

/// Which rank holds each stage. Any table is legal; placement/ makes the usual ones.
struct Placement {
  std::string name;                ///< "loop", "v", "bidirectional", or "table"
  int ranks = 0;                   ///< P
  std::vector<int> rank_of_stage;  ///< S entries for each copy, each 0 … P-1
  int copies = 1;                  ///< of every stage, each with its share of the micro-batches

  int stages() const { return static_cast<int>(rank_of_stage.size()) / copies; }
  int rank_of(int stage, int copy = 0) const {
    const int index = copy * stages() + stage;
    return rank_of_stage[static_cast<std::size_t>(index)];
  }
  /// Stages of one rank, of any copy, ascending. Cost: O(S).
  std::vector<int> stages_of(int rank) const;

  friend bool operator==(const Placement&, const Placement&) = default;
};

/// For each rank, an ordered list of actions; lowered if it holds its communication as well.
/// Not proven: only verify() (plait/verify/verify.h) makes what simulator and runtime take.
struct Schedule {
  std::string name;  ///< generator's or file's name, for messages
  Placement placement;
  int microbatches = 0;       ///< M
  bool forward_only = false;  ///< no backward is expected (validation)
  std::vector<std::vector<Action>> ranks;

  /// Micro-batch m belongs to copy floor(copies * m / M).
  int copy_of(int microbatch) const {
    return placement.copies == 1 ? 0
                                 : static_cast<int>(static_cast<std::int64_t>(placement.copies) *
                                                    microbatch / microbatches);
  }
  int rank_of(int stage, int microbatch) const {
    return placement.rank_of(stage, copy_of(microbatch));
  }

  friend bool operator==(const Schedule&, const Schedule&) = default;
};

/// True if `is(action.type)` of some action. Cost: O(actions).
template <typename Is>
bool holds(const Schedule& schedule, Is is) {
  return std::any_of(schedule.ranks.begin(), schedule.ranks.end(), [&](const auto& list) {
    return std::any_of(list.begin(), list.end(),
                       [&](const Action& action) { return is(action.type); });
  });
}

/// An empty schedule: P empty lists.
Schedule empty_schedule(std::string_view name, Placement placement, int microbatches);

/// True if the schedule holds communication, or needs none because no value crosses ranks.
/// Cost: O(actions).
bool is_lowered(const Schedule& schedule);

}  // namespace plait
