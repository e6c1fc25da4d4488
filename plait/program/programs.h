/// A schedule made ready to run: proven, lowered and proven again.
#pragma once

#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/program/rank_program.h"
#include "plait/verify/verify.h"

namespace plait {

/// What the replicas of a run do together.
struct ReplicaWork {
  bool reduces = false;                ///< gradients are reduced
  ShardMode shard = ShardMode::kNone;  ///< what they share out
};

/// What is asked of a schedule's lowering.
struct LoweringWork {
  /// Stages of a rank that are whole at a time; 0: as torch has them, or as the schedule says.
  int max_active_stages = 0;
  std::string unshard_lookahead = "full";  ///< LoweringOptions
  int max_outstanding_sends = 0;           ///< sends of a rank without their wait; 0: any number
};

/// Inserts what the schedule lacks, and proves what comes out: communication; reductions behind
/// each stage's last backward; UNSHARD and RESHARD where replicas share out anything. A schedule
/// that has actions of one of these kinds keeps them as they are. Where reductions free gradients,
/// a rank waits for each before it begins the next; where the number of sends is limited, for sends
/// too. Errors (kInvalidInput): every rule it breaks, more active stages than asked for among them;
/// what is asked for out of its limits. prove() (verify/prove.h) takes a schedule as it is.
Expected<VerifiedSchedule> prove_lowered(Schedule schedule, const ReplicaWork& replicas,
                                         const LoweringWork& work = {});

/// The programs of all ranks, by rank. Errors: those of lower(), or what the second proof found.
Expected<std::vector<RankProgram>> lower_all(const VerifiedSchedule& schedule,
                                             const LowerOptions& options);

}  // namespace plait
