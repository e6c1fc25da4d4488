/// Programs that train a model of their own, as processes over Gloo.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/torch/c10d_world.h"

namespace plait {

/// What this process is.
struct RunProcess {
  /// Set in the process that a user started, which has started the ranks and waited for them.
  std::optional<int> exit_code;
  std::string message;  ///< of that process, for stderr; empty if all ranks ended well
  C10dOptions options;  ///< of a rank: for PipelineOptions::process
};

/// Under torchrun, mpirun or Slurm this process is a rank. Otherwise it starts `ranks` processes on
/// this machine, each this program again with `arguments` (without its name), and returns when they
/// have ended; rank 0 prints where this process does. Errors: those of find_place() and of
/// LocalRanks; no port is free.
Expected<RunProcess> join_processes(int ranks, const std::vector<std::string>& arguments);

}  // namespace plait
