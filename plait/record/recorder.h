/// Writes what a run leaves in its folder while it trains: metrics.jsonl and timelines. Knows no
/// torch.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/job/job_config.h"
#include "plait/record/run_folder.h"
#include "plait/record/step_report.h"

namespace plait {

/// run.folder of the job, or runs/<job's name>.
std::string run_folder_path(const JobConfig& job);

/// For rank 0. Calls come from one thread. Errors: a file that cannot be written.
class Recorder {
 public:
  struct Options {
    std::string folder;
    ExistingFolder existing = ExistingFolder::kRefuse;
    int steps = 0;          ///< of the run: the last step's timeline is always written
    int timeline_step = 0;  ///< whose timeline goes to timeline.json, from 1; 0: none
    /// Told once if last_step.json, which is there to be watched, cannot be written: the run goes
    /// on.
    std::function<void(const Error&)> on_warning{};
  };

  /// Makes the folder with job.toml and the first line of the metrics. Errors: those of RunFolder.
  static Expected<Recorder> begin(const Options& options, std::string_view job);

  /// From the first call on the folder stays.
  Expected<void> step(const StepOutcome& outcome);
  Expected<void> validation(const ValidationLine& line);

  const std::string& folder() const { return folder_.path(); }
  std::string file(std::string_view name) const { return folder_.file(name); }

 private:
  Recorder(const Options& options, RunFolder folder)
      : options_(options), folder_(std::move(folder)) {}
  void write_last_step(const StepOutcome& outcome);

  Options options_;
  RunFolder folder_;
  Nanoseconds last_step_due_ = 0;  // when last_step.json may be written next
  bool warned_ = false;
};

}  // namespace plait
