#include "plait/record/run_view.h"

#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <utility>

#include "plait/base/read_file.h"
#include "plait/job/job_config.h"
#include "plait/record/folder_lock.h"
#include "plait/record/run_folder.h"
#include "plait/timeline/timeline_file.h"

namespace plait {
namespace {

/// Between the first two files of a run lies less.
constexpr Nanoseconds kStartTime = 5'000'000'000;

Nanoseconds wall_clock() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Expected<std::optional<RunFollower::Stamp>> RunFollower::stamp_of(const char* name) const {
  struct stat found {};
  if (stat(file(name).c_str(), &found) == 0) {
    return Stamp{
        found.st_ino, found.st_size,
        static_cast<Nanoseconds>(found.st_mtim.tv_sec) * 1'000'000'000 + found.st_mtim.tv_nsec};
  }
  if (errno == ENOENT) return std::nullopt;
  return fail(ErrorCode::kInvalidInput, fmt::format("cannot be read: {}", std::strerror(errno)),
              file(name));
}

RunFollower::RunFollower(std::string folder) {
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  view_.folder = std::move(folder);
}

RunFollower RunFollower::of_next_run(std::string folder) {
  RunFollower follower(std::move(folder));
  follower.awaits_next_ = true;
  const auto present = follower.stamp_of("metrics.jsonl");
  if (present && *present) follower.metrics_ = (*present)->file;
  return follower;
}

/// While an earlier run is overwritten its files are kept, so that theirs are other numbers.
bool RunFollower::is_next_run() const {
  const auto metrics = stamp_of("metrics.jsonl");
  return metrics && *metrics && (*metrics)->file != metrics_;
}

Expected<bool> RunFollower::check_folder() const {
  const auto not_a_run = [&](const char* missing) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("is not the folder of a run (no {})", missing), view_.folder);
  };
  struct stat found {};
  if (stat(view_.folder.c_str(), &found) != 0 || !S_ISDIR(found.st_mode)) {
    return fail(ErrorCode::kInvalidInput, "is not a folder, needed the folder of a run",
                view_.folder);
  }
  PLAIT_TRY(const auto job, stamp_of("job.toml"));
  PLAIT_TRY(const auto metrics, stamp_of("metrics.jsonl"));
  if (job && metrics) return true;
  // An earlier run is being overwritten.
  PLAIT_TRY(const auto previous, stamp_of(".previous"));
  if (!job && !previous) return not_a_run("job.toml");
  if (job && wall_clock() - job->written > kStartTime) return not_a_run("metrics.jsonl");
  return false;
}

Expected<void> RunFollower::refresh() {
  if (awaits_next_ && !is_next_run()) return {};
  awaits_next_ = false;
  PLAIT_TRY(const bool begun, check_folder());
  if (!begun) return {};
  PLAIT_TRY(const auto metrics, stamp_of("metrics.jsonl"));
  if (!metrics) return {};
  if (metrics->file != metrics_ || metrics->size < bytes_read_) start_over(metrics->file);
  if (!view_.begun) {
    PLAIT_TRY(const JobConfig job, read_job_config(file("job.toml"), {}));
    view_.steps = job.run.steps;
    view_.threads = job.run.threads;
    view_.begun = true;
  }
  PLAIT_TRY_VOID(read_metrics(*metrics));
  PLAIT_TRY_VOID(read_last_step());
  view_.quiet_ns = std::max<Nanoseconds>(0, wall_clock() - metrics->written);
  // The last file that a run writes.
  PLAIT_TRY(const auto model, stamp_of("model/config.json"));
  view_.ended = model.has_value();
  view_.killed = !view_.ended && FolderLock::state(view_.folder) == FolderLock::State::kLeft;
  return {};
}

void RunFollower::start_over(ino_t metrics) {
  RunView fresh;
  fresh.folder = std::move(view_.folder);
  view_ = std::move(fresh);
  metrics_ = metrics;
  bytes_read_ = 0;
  reader_ = MetricsReader(file("metrics.jsonl"));
  last_step_ = {};
}

Expected<void> RunFollower::read_metrics(const Stamp& metrics) {
  std::ifstream stream(file("metrics.jsonl"), std::ios::binary);
  const auto unreadable = [&] {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the metrics file cannot be read: {}", std::strerror(errno)),
                file("metrics.jsonl"));
  };
  if (!stream || !stream.seekg(bytes_read_)) return unreadable();
  std::string piece(std::size_t{1} << 20, '\0');
  while (bytes_read_ < metrics.size) {
    const auto wanted = std::min(static_cast<std::streamsize>(piece.size()),
                                 static_cast<std::streamsize>(metrics.size - bytes_read_));
    stream.read(piece.data(), wanted);
    if (stream.gcount() <= 0) return unreadable();
    bytes_read_ += stream.gcount();
    PLAIT_TRY(const std::vector<MetricsLine> lines,
              reader_.read({piece.data(), static_cast<std::size_t>(stream.gcount())}));
    for (const MetricsLine& line : lines) {
      if (const auto* validation = std::get_if<ValidationLine>(&line)) {
        view_.validations.push_back({validation->step, validation->loss});
        continue;
      }
      view_.last = std::get<StepLine>(line);
      if (std::isfinite(view_.last->loss))
        view_.losses.push_back({view_.last->step, view_.last->loss});
      constexpr Nanoseconds kMost = std::numeric_limits<Nanoseconds>::max();
      view_.elapsed_ns += std::min(view_.last->step_ns, kMost - view_.elapsed_ns);
    }
  }
  return {};
}

Expected<void> RunFollower::read_last_step() {
  const std::string name(kLastStepFile);
  PLAIT_TRY(const auto stamp, stamp_of(name.c_str()));
  if (!stamp || *stamp == last_step_) return {};
  PLAIT_TRY(const std::string text, read_file(file(name.c_str()), "timeline"));
  PLAIT_TRY(view_.timeline, read_timeline(text, file(name.c_str())));
  last_step_ = *stamp;
  return {};
}

}  // namespace plait
