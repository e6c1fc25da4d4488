#include "plait/train/checkpoint_resume.h"

#include <fmt/core.h>

#include <filesystem>
#include <utility>

#include "plait/job/compare_jobs.h"
#include "plait/record/metrics_file.h"
#include "plait/train/tensor_slices.h"

namespace plait {
namespace {

namespace fs = std::filesystem;

/// Of runs/job/checkpoints/step-20, runs/job; of a checkpoint that lies elsewhere, nothing.
std::string run_of(const std::string& checkpoint) {
  std::error_code error;
  const fs::path whole = fs::weakly_canonical(checkpoint, error);
  if (error || whole.parent_path().filename() != kCheckpoints) return {};
  return whole.parent_path().parent_path().string();
}

Expected<void> add_metrics(Resume& resume) {
  const std::string run = run_of(resume.from.folder);
  const std::string path = run + "/metrics.jsonl";
  std::error_code error;
  if (run.empty() || !fs::exists(path, error)) {
    resume.notes.push_back(fmt::format("no metrics.jsonl beside {}: the run's begins at step {}",
                                       resume.from.folder, resume.step() + 1));
    return {};
  }
  PLAIT_TRY(MetricsUntil until, metrics_until(path, resume.step()));
  resume.metrics = std::move(until.lines);
  if (until.missing > 0) {
    resume.notes.push_back(
        fmt::format("{} lacks {} of the {} steps before", path, until.missing, resume.step()));
  }
  return {};
}

/// The state and the manifest are of one step.
Expected<void> check_step(const SavedState& saved, const FoundCheckpoint& from) {
  std::int64_t step = -1;
  const StateSlice slice = slice_of("trainer.step", step);
  if (saved.mismatch(slice).empty()) PLAIT_TRY_VOID(saved.fill(slice));
  if (step == from.manifest.step) return {};
  return fail(
      ErrorCode::kInvalidInput,
      fmt::format("its state is of step {}, its manifest of step {}", step, from.manifest.step),
      from.folder);
}

}  // namespace

std::string Resume::agreement() const {
  std::string text = fmt::format("goes on from step {}", step());
  for (const auto& [name, seal] : from.manifest.files)
    text += fmt::format("\n{} {}", name, seal.xxh3_128);
  return text;
}

Expected<Resume> resume_from(const std::string& folder, const JobConfig& job) {
  PLAIT_TRY(FoundCheckpoint from, find_checkpoint(folder));
  const std::string job_file = fmt::format("{}/{}", from.folder, kCheckpointJob);
  PLAIT_TRY(const JobConfig before, read_job_config(job_file, {}));
  PLAIT_TRY(const std::vector<std::string> changes, check_resumed_job(before, job));
  PLAIT_TRY(SavedState saved, SavedState::open(from.folder, from.manifest));
  PLAIT_TRY_VOID(check_step(saved, from));
  Resume resume{std::move(from), std::move(saved), {}, {}, {}};
  if (resume.step() > job.run.steps) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("is of step {}, the run ends at step {}", resume.step(), job.run.steps),
                resume.from.folder);
  }
  resume.notes.push_back(
      fmt::format("goes on from step {}, {}", resume.step(), resume.from.folder));
  for (const Error& one : resume.from.passed_over)
    resume.notes.push_back(fmt::format("a newer checkpoint was passed over: {}", one.text()));
  for (const std::string& change : changes) resume.notes.push_back(change);
  if (before.run.seed != job.run.seed) resume.own.insert("sampler.seed");
  PLAIT_TRY_VOID(add_metrics(resume));
  return resume;
}

}  // namespace plait
