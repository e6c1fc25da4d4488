#include "plait/record/recorder.h"

#include <algorithm>
#include <utility>

#include "plait/base/write_file.h"
#include "plait/timeline/timeline.h"

namespace plait {

std::string run_folder_path(const JobConfig& job) {
  return job.run.folder.empty() ? "runs/" + job.name : job.run.folder;
}

Expected<Recorder> Recorder::begin(const Options& options, std::string_view job) {
  PLAIT_TRY(RunFolder folder, RunFolder::create(options.folder, options.existing, job));
  Recorder recorder(options, std::move(folder));
  PLAIT_TRY_VOID(recorder.folder_.append_metrics(metrics_header()));
  return recorder;
}

Expected<void> Recorder::step(const StepOutcome& outcome) {
  folder_.keep();
  PLAIT_TRY_VOID(folder_.append_metrics(print_json(outcome.line)));
  if (outcome.line.step == options_.timeline_step) {
    PLAIT_TRY_VOID(
        write_file_atomically(file("timeline.json"), print_chrome_trace(outcome.timeline)));
  }
  write_last_step(outcome);
  return {};
}

Expected<void> Recorder::validation(const ValidationLine& line) {
  return folder_.append_metrics(print_json(line));
}

// The pause after a write is 200 times as long as the write, so that writing takes less than half
// a percent of the run.
void Recorder::write_last_step(const StepOutcome& outcome) {
  constexpr Nanoseconds kLeastPause = 500'000'000, kPauseForEachWrite = 200;
  const bool last = outcome.line.step == options_.steps || outcome.stop_signal != 0;
  const Nanoseconds begin = now();
  if (outcome.timeline.events.empty() || (begin < last_step_due_ && !last)) return;
  const Expected<void> written =
      write_file_atomically(file(kLastStepFile), print_chrome_trace(outcome.timeline));
  if (!written && !std::exchange(warned_, true) && options_.on_warning)
    options_.on_warning(written.error());
  const Nanoseconds end = now();
  last_step_due_ = end + std::max(kLeastPause, kPauseForEachWrite * (end - begin));
}

}  // namespace plait
