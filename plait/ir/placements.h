/// The usual placements, in one table that parser, command line, docs and tests iterate.
#pragma once

#include <array>
#include <string_view>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait {

/// Stage s on rank s mod P. Errors: P or S below 1, S not a multiple of P. Cost: O(S).
Expected<Placement> place_loop(int ranks, int stages);

/// Down the ranks and back up, again and again (P=4, S=12: 0 1 2 3 3 2 1 0 0 1 2 3).
/// Errors and cost as place_loop.
Expected<Placement> place_v(int ranks, int stages);

/// Two copies of every stage: stage s of copy 0 on rank s mod P, of copy 1 on rank P-1-(s mod P).
/// Errors and cost as place_loop.
Expected<Placement> place_bidirectional(int ranks, int stages);

struct PlacementInfo {
  std::string_view name;
  std::string_view summary;
  Expected<Placement> (*make)(int ranks, int stages);
};

inline constexpr std::array kPlacements = {
    PlacementInfo{"loop", "stage s on rank s mod P", place_loop},
    PlacementInfo{"v", "down the ranks and back up", place_v},
    PlacementInfo{"bidirectional", "two copies of the stages, one down the ranks and one up",
                  place_bidirectional},
};

/// Errors: a name that is not in the table.
Expected<Placement> place(std::string_view name, int ranks, int stages);

}  // namespace plait
