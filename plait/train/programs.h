/// A schedule made ready to run: proven, lowered and proven again.
#pragma once

#include <vector>

#include "plait/base/error.h"
#include "plait/program/rank_program.h"
#include "plait/verify/verify.h"

namespace plait {

/// Inserts the communication that the schedule lacks, and with `reduce` the reductions of gradients
/// unless it says itself where they are. Errors (kInvalidInput): every rule it breaks.
Expected<VerifiedSchedule> prove(Schedule schedule, bool reduce);

/// The programs of all ranks, by rank. Errors: those of lower(), or what the second proof found.
Expected<std::vector<RankProgram>> lower_all(const VerifiedSchedule& schedule,
                                             const LowerOptions& options);

}  // namespace plait
