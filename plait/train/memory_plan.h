/// The most memory that each rank of a run needs, before it runs: of a job, and of a caller's own
/// modules. Knows no torch.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/ir/schedule.h"
#include "plait/model/part_memory.h"
#include "plait/model/partition.h"
#include "plait/program/grid.h"
#include "plait/program/peak_memory.h"
#include "plait/program/rank_program.h"

namespace plait {

/// AdamW keeps so many numbers for each number of a parameter.
inline constexpr int kAdamWMoments = 2;
/// Of a micro-batch's loss.
inline constexpr Bytes kLossBytes = 8;

/// Bounds for tensors of one rank of the pipeline, the same in all columns. What the process needs
/// beside them (code, the data's pages, threads' stacks) is not counted.
struct RankMemory {
  Bytes weights = 0;    ///< parameters and buffers, such as routers' biases, tables of positions
  Bytes gradients = 0;  ///< tied embeddings have two
  Bytes optimizer = 0;  ///< AdamW's moments
  Bytes batch = 0;      ///< of a step: losses, of a job also tokens and targets
  /// Of sharded replicas: parameters and gradients that are here whole for a while, at most at one
  /// time; beside them the rank's own slices are in the fields above.
  Bytes whole = 0;
  /// Gradients on their way between replicas, all at one time; of sharded replicas gradients and
  /// parameters, at most at one time.
  Bytes reductions = 0;
  Bytes start = 0;  ///< of sharded replicas: parameters whole before they are cut, and own slices
  Bytes snapshot = 0;  ///< what a checkpoint copies, where a run writes some
  /// With what is exchanged, in a step or a validation; empty: the parts do not say what they need.
  std::optional<Bytes> activations;

  /// What is there between steps.
  Bytes lasting() const { return weights + gradients + optimizer + batch; }
  /// Parameters, gradients and optimiser state, at most: what a step reports as peak_state_bytes.
  Bytes state() const { return weights + gradients + optimizer + whole; }
  Bytes total() const {
    return std::max(start, lasting() + whole + reductions + snapshot + activations.value_or(0));
  }
  /// Adds what another stage of the rank needs, activations aside.
  RankMemory& operator+=(const RankMemory& stage);
};

/// What the reduction of a stage's gradients over a group of `members` holds (train/reduce.h).
Bytes reduction_bytes(std::int64_t numbers, int members);

/// A language model, cut over ranks.
struct ModelOnRanks {
  const ModelConfig& model;
  const std::vector<StagePart>& parts;  ///< by stage
  const Placement& placement;
  Grid grid;
  MicrobatchShape microbatch;
  int microbatches = 1;  ///< of the schedule
};

/// By rank of the pipeline, without activations.
std::vector<RankMemory> model_memory(const ModelOnRanks& input);

/// Sets the activations: the larger peak of the two programs. `parts`: by stage and part.
void set_activations(std::vector<RankMemory>& memory, const std::vector<RankProgram>& training,
                     const std::vector<RankProgram>& validation,
                     const std::vector<std::vector<PartMemory>>& parts);

/// An error (kInvalidInput) names the rank that needs most, if that is more than `limit`, which is
/// not 0.
Expected<void> check_memory(Bytes limit, const Grid& grid, const std::vector<RankMemory>& memory);

/// The global ranks that stand at a rank of the pipeline: "3", or "6-7".
std::string ranks_at(const Grid& grid, int pipeline_rank);

/// A row for each rank of the pipeline: weights, gradients, what is whole for a while and snapshots
/// where there are any, optimiser, activations, and all of it in bytes, as a limit is compared
/// with; "-" where activations are not known.
std::string describe_memory(const Grid& grid, const std::vector<RankMemory>& memory);

}  // namespace plait
