/// Runs stages without programs, lanes and messages. The runtime's results must have the same bits.
#pragma once

#include <vector>

#include "plait/base/error.h"
#include "plait/program/pair_order.h"
#include "plait/runtime/stage.h"

namespace plait {

/// The stages of all columns of a run, which exchange rows with one another.
struct SideBySide {
  std::vector<std::vector<Stage*>> columns;  ///< by column: the whole model, by stage
  std::vector<StageShape> shapes;            ///< by stage; empty: each is one part that computes
  int members = 1;                           ///< of an expert group: neighbouring columns
};

/// Runs one micro-batch through all stages in the calling thread, part by part, each part in all
/// columns, then back by whole backwards if `for_backward`. An exchange hands each column's shares
/// to the columns of its group. Errors: the stages' first.
Expected<void> run_side_by_side(const SideBySide& model, int microbatch, bool for_backward);

}  // namespace plait
