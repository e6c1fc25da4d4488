/// What the processes of a run must agree on before their first step. All ranks make the same
/// calls.
#pragma once

#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/program/rank_program.h"
#include "plait/runtime/comm.h"

namespace plait {

/// Compares the text of the job between ranks. Errors (kInvalidInput): the first line that differs
/// from rank 0's, and the rank.
Expected<void> agree_on_job(Exchange& exchange, const std::string& job);

/// Compares what each process has lowered: what crosses the boundaries between stages, the order of
/// the collectives by which transports match them, and all instructions. `programs` by pipeline
/// rank. A hash travels; the text only if hashes differ. Errors (kCheckFailed): the first
/// difference to rank 0: which boundary, or which collective or instruction of which pipeline rank,
/// and what both ranks have there.
Expected<void> agree_on_programs(Exchange& exchange, const std::vector<RankProgram>& programs);

}  // namespace plait
