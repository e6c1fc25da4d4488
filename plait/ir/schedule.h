/// Placement and Schedule: for each rank, an ordered list of actions.
#pragma once

#include <string>
#include <vector>

#include "plait/ir/action.h"

namespace plait {

/// Which rank holds each stage. Any table is legal; placement/ makes the usual ones.
struct Placement {
  std::string name;                ///< "loop", "v", or "table"
  int ranks = 0;                   ///< P
  std::vector<int> rank_of_stage;  ///< S entries, each 0 … P-1

  int stages() const { return static_cast<int>(rank_of_stage.size()); }
  int rank_of(int stage) const { return rank_of_stage[static_cast<std::size_t>(stage)]; }
  /// Stages of one rank, ascending. Cost: O(S).
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

  friend bool operator==(const Schedule&, const Schedule&) = default;
};

}  // namespace plait
