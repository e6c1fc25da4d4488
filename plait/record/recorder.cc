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
  PLAIT_TRY(RunFolder folder,
            RunFolder::create(options.folder, options.existing, job, options.metrics));
  Recorder recorder(options, std::move(folder));
  if (options.metrics.empty()) PLAIT_TRY_VOID(recorder.folder_.metrics().append(metrics_header()));
  if (options.room > 0) {
    PLAIT_TRY(recorder.room_, DiskRoom::take(options.folder, options.room));
  }
  return recorder;
}

void Recorder::step(const StepOutcome& outcome) {
  folder_.keep();
  append(print_json(outcome.line));
  if (outcome.line.step == options_.timeline_step)
    write_result("timeline.json", print_chrome_trace(outcome.timeline));
  write_last_step(outcome);
}

void Recorder::validation(const ValidationLine& line) { append(print_json(line)); }

void Recorder::append(const std::string& line) {
  if (const Expected<void> appended = folder_.metrics().append(line); !appended)
    warn(appended.error());
}

void Recorder::write_result(std::string_view name, std::string_view bytes) {
  const Expected<void> written = write_file_atomically(file(name), bytes);
  if (written) return;
  warn(written.error());
  if (!missing_) missing_ = written.error();
}

void Recorder::write_to_look_at(std::string_view name, std::string_view bytes) {
  if (const Expected<void> written = write_file_atomically(file(name), bytes); !written)
    warn(written.error());
}

void Recorder::warn(const Error& error) {
  if (warned_.insert(error.where).second && options_.on_warning) options_.on_warning(error);
}

Expected<void> Recorder::end() {
  PLAIT_TRY_VOID(folder_.metrics().write_waiting());
  if (missing_) return tl::unexpected<Error>(*missing_);
  return {};
}

// The pause after a write is 200 times as long as the write, so that writing takes less than half
// a percent of the run.
void Recorder::write_last_step(const StepOutcome& outcome) {
  constexpr Nanoseconds kLeastPause = 500'000'000, kPauseForEachWrite = 200;
  const bool last = outcome.line.step == options_.steps || outcome.stop_signal != 0;
  const Nanoseconds begin = now();
  if (outcome.timeline.events.empty() || (begin < last_step_due_ && !last)) return;
  write_to_look_at(kLastStepFile, print_chrome_trace(outcome.timeline));
  const Nanoseconds end = now();
  last_step_due_ = end + std::max(kLeastPause, kPauseForEachWrite * (end - begin));
}

}  // namespace plait
