/// Stages without programs, lanes and messages: what the runtime's results are held against.
#pragma once

#include <vector>

#include "plait/base/error.h"
#include "plait/program/pair_order.h"
#include "plait/runtime/stage.h"

namespace plait {

/// Stages that exchange rows with one another.
struct SideBySide {
  std::vector<std::vector<Stage*>> columns;  ///< by column: the whole model, by stage
  std::vector<StageShape> shapes;            ///< by stage; empty: each is one part that computes
  int members = 1;                           ///< of an expert group: neighbouring columns
};

/// Runs one micro-batch through all stages in the calling thread, part by part, each part in all
/// columns, then back by whole backwards if `for_backward`. What an exchange does is done to the
/// columns' values. Errors: the stages' first.
Expected<void> run_side_by_side(const SideBySide& model, int microbatch, bool for_backward);

}  // namespace plait
