/// Checks that the ranks of a group issue their collectives in one order, which is what transports
/// match them by.
#pragma once

#include <vector>

#include "plait/base/error.h"
#include "plait/program/grid.h"
#include "plait/program/rank_program.h"

namespace plait {

/// `programs` by global rank, none null; columns may run different ones. Only communication lanes
/// issue collectives. Errors (kCheckFailed): the first place where two ranks of a group differ,
/// with both ranks and what each issues there. Cost: O(instructions of all ranks).
Expected<void> check_collective_order(const Grid& grid,
                                      const std::vector<const RankProgram*>& programs);

/// All instructions of a column's ranks, one a line with the pipeline rank: what processes that run
/// one job compare before the first step.
std::string print_programs(const std::vector<RankProgram>& programs);

}  // namespace plait
