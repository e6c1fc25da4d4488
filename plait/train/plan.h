/// What a job means before anything runs: schedules proven, programs lowered and checked, layers
/// spread over stages. Holds no tensors.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/job/job_config.h"
#include "plait/model/dtypes.h"
#include "plait/model/partition.h"
#include "plait/program/grid.h"
#include "plait/program/rank_program.h"
#include "plait/train/memory_plan.h"
#include "plait/verify/verify.h"

namespace plait {

struct JobPlan {
  JobConfig job;              ///< as resolved: with `init`, [model] is that of the folder
  Schedule compute_only;      ///< the schedule before its communication was inserted, for pictures
  VerifiedSchedule training;  ///< lowered and proven
  VerifiedSchedule validation;
  std::vector<RankProgram> training_programs;    ///< by rank
  std::vector<RankProgram> validation_programs;  ///< by rank
  std::vector<StagePart> parts;                  ///< by stage
  std::vector<StageShape> shapes;                ///< by stage
  std::vector<RankMemory> memory;                ///< by rank of the pipeline
  std::vector<std::string> notes;                ///< what of the folder in model.init is skipped

  const Placement& placement() const { return training.placement(); }
  Grid grid() const { return {placement().ranks, job.parallel.data, job.parallel.expert}; }
  /// Of the run: pipeline × data × expert.
  int ranks() const { return grid().ranks(); }
  bool has_exchanges() const;
  /// Words of the segments that are recomputed (model/architectures.h).
  std::set<std::string> recomputed() const;
  int stages() const { return placement().stages(); }
  int microbatches() const { return job.parallel.microbatches; }
  /// Of what one stage hands to the next.
  Bytes message_bytes() const;
  /// Sequences of one micro-batch in one column.
  int sequences() const {
    return job.run.batch_size / (job.parallel.microbatches * grid().columns());
  }
};

/// Errors: a schedule that cannot be made or proven for this job, fewer layers than stages, tied
/// embeddings whose two ends lie on different ranks, a rank that may need more than
/// parallel.memory_limit_bytes. Cost: O(actions * ranks).
Expected<JobPlan> make_plan(JobConfig job);

/// The share of forwards that run in pairs, and how those pairs run.
std::string describe_pairs(const JobPlan& plan);

/// "UNSHARD and RESHARD: 16 instructions with nothing to do, parameters are held whole": actions of
/// the schedule that this run has no work for, a line each. Empty if there are none.
std::string describe_nothing_to_do(const JobPlan& plan);

/// The table of stages, layers, parameters and ranks.
std::string describe_stages(const JobPlan& plan);

/// The most memory of each rank: weights, gradients, optimiser, activations, and all of it in
/// bytes, as a limit is compared with.
std::string describe_memory(const JobPlan& plan);

}  // namespace plait
