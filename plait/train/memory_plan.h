/// The most memory that each rank of a job needs, before it runs. Knows no torch.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/job/job_config.h"
#include "plait/model/partition.h"
#include "plait/program/grid.h"
#include "plait/program/rank_program.h"

namespace plait {

/// Bounds for tensors of one rank of the pipeline, the same in all columns. What the process needs
/// beside them (code, the data's pages, threads' stacks) is not counted.
struct RankMemory {
  Bytes weights = 0;      ///< with routers' biases and tables of positions
  Bytes gradients = 0;    ///< tied embeddings have two
  Bytes optimizer = 0;    ///< AdamW: two moments
  Bytes batch = 0;        ///< tokens, targets and losses of a step
  Bytes reductions = 0;   ///< gradients on their way between replicas, all at one time
  Bytes activations = 0;  ///< with what is exchanged, in a step or a validation

  Bytes total() const { return weights + gradients + optimizer + batch + reductions + activations; }
};

/// What it is computed from.
struct MemoryInput {
  const JobConfig& job;
  const Placement& placement;
  const std::vector<StagePart>& parts;
  const std::set<std::string>& recomputed;
  const std::vector<RankProgram>& training;
  const std::vector<RankProgram>& validation;
};

/// By rank of the pipeline; with rows for experts up to parallel.token_bound.
std::vector<RankMemory> plan_memory(const MemoryInput& input);

/// An error (kInvalidInput) names the rank that needs most, if that is more than
/// parallel.memory_limit_bytes, which is not 0.
Expected<void> check_memory(const JobConfig& job, const std::vector<RankMemory>& memory);

}  // namespace plait
