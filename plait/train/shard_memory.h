/// What sharded replicas save on a rank, and what they hold for a while. Knows no torch.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/program/grid.h"
#include "plait/program/rank_program.h"
#include "plait/train/memory_plan.h"

namespace plait {

/// A parameter that a rank uses, as its plan knows it.
struct PlannedParameter {
  std::string name;
  std::int64_t numbers = 0;
  Group holders = Group::kReplicas;
  std::set<int> stages;  ///< of the rank, which use it
  int gradients = 1;     ///< 2 of tied embeddings whose two uses lie on the rank
  Bytes rounded = 0;     ///< of its copy in the dtype of products, whole where the parameter is
};

/// The programs of one rank of the pipeline.
struct ProgramsOfRank {
  const RankProgram& training;
  const RankProgram& validation;
  int rounds = 1;  ///< of a step; only the last one reduces
};

/// Counts what shards.h holds. `memory` has everything whole; from it goes what belongs to other
/// members, of that column which owns most, and `whole` and `reductions` are set: bounds over all
/// orders in which the two lanes can run. `parameters` in order of names. Nothing changes if the
/// program shards nothing. Cost: O(instructions * stages of the rank + chunks).
/// Errors (kInvalidInput): more replicas than chunks, so that one would own nothing.
Expected<void> shard_memory(const std::vector<PlannedParameter>& parameters, const Grid& grid,
                            const ProgramsOfRank& programs, RankMemory& memory);

}  // namespace plait
