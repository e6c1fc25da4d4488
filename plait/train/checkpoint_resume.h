/// From where a run goes on, before it begins.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "plait/job/job_config.h"
#include "plait/saved/checkpoint_folder.h"
#include "plait/train/checkpoint_state.h"

namespace plait {

struct Resume {
  FoundCheckpoint from;
  SavedState saved;
  /// Keys of the state that stay as the job makes them, because a flag has changed them.
  std::set<std::string> own;
  /// What metrics.jsonl begins with.
  std::string metrics;
  /// For people: the step, damaged checkpoints that were passed over, what the job has changed.
  std::vector<std::string> notes;

  int step() const { return from.manifest.step; }
  /// Processes that go on compare it: the same step of the same files.
  std::string agreement() const;
};

/// `folder`: a run's, or a checkpoint. Errors (kInvalidInput): no whole checkpoint is there; the
/// job has changed what changes results and no flag says so (job/compare_jobs.h), or would end
/// before that step. Cost: reads every file of the checkpoint.
Expected<Resume> resume_from(const std::string& folder, const JobConfig& job);

}  // namespace plait
