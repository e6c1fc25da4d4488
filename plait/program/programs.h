/// A schedule made ready to run: proven, lowered and proven again.
#pragma once

#include <cstdint>
#include <vector>

#include "plait/base/error.h"
#include "plait/program/rank_program.h"
#include "plait/verify/verify.h"

namespace plait {

/// Whether gradients are reduced over replicas.
enum class Reductions : std::uint8_t {
  kNone,
  kInserted,  ///< behind each stage's last backward, unless the schedule says itself where
};

/// Inserts the communication and the reductions that the schedule lacks, and proves what comes out.
/// Errors (kInvalidInput): every rule it breaks. prove() (verify/prove.h) takes a schedule as it
/// is.
Expected<VerifiedSchedule> prove_lowered(Schedule schedule, Reductions reductions);

/// The programs of all ranks, by rank. Errors: those of lower(), or what the second proof found.
Expected<std::vector<RankProgram>> lower_all(const VerifiedSchedule& schedule,
                                             const LowerOptions& options);

}  // namespace plait
