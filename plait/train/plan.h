/// What a job means before anything runs: schedules proven, programs lowered and checked, layers
/// spread over stages. Holds no tensors.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "plait/base/error.h"
#include "plait/job/job_config.h"
#include "plait/model/partition.h"
#include "plait/train/memory_plan.h"
#include "plait/train/train_plan.h"

namespace plait {

/// The plan of a job, with what only the job knows. Who trains takes the TrainPlan alone.
struct JobPlan : TrainPlan {
  JobPlan(TrainPlan plan, JobConfig resolved, std::vector<StagePart> parts_of_stages,
          std::vector<RankMemory> memory_of_ranks, std::vector<std::string> notes_on_folder)
      : TrainPlan(std::move(plan)),
        job(std::move(resolved)),
        parts(std::move(parts_of_stages)),
        memory(std::move(memory_of_ranks)),
        notes(std::move(notes_on_folder)) {}

  JobConfig job;                   ///< as resolved: with `init`, [model] is that of the folder
  std::vector<StagePart> parts;    ///< by stage
  std::vector<RankMemory> memory;  ///< by rank of the pipeline
  std::vector<std::string> notes;  ///< what of the folder in model.init is skipped

  /// Words of the segments that are recomputed (model/architectures.h).
  std::set<std::string> recomputed() const;
  /// Of hidden states.
  Dtype compute_dtype() const;
  /// Of what one stage hands to the next.
  Bytes message_bytes() const;
};

/// Errors: a schedule that cannot be made or proven for this job, fewer layers than stages, tied
/// embeddings whose two ends lie on different ranks, a rank that may need more than
/// parallel.memory_limit_bytes. Cost: O(actions * ranks).
Expected<JobPlan> make_plan(JobConfig job);

/// The table of stages, layers, parameters and ranks.
std::string describe_stages(const JobPlan& plan);

}  // namespace plait
