/// Writes what a run leaves in its folder while it trains: metrics.jsonl and timelines. Knows no
/// torch.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/job/job_config.h"
#include "plait/record/disk_room.h"
#include "plait/record/run_folder.h"
#include "plait/record/step_report.h"

namespace plait {

/// run.folder of the job, or runs/<job's name>.
std::string run_folder_path(const JobConfig& job);

/// For rank 0. Calls come from one thread. A file that cannot be written ends no run: it is told to
/// on_warning, once a file, and if it is a result of the run, end() returns it.
class Recorder {
 public:
  struct Options {
    std::string folder;
    ExistingFolder existing = ExistingFolder::kRefuse;
    int steps = 0;          ///< of the run: the last step's timeline is always written
    int timeline_step = 0;  ///< whose timeline goes to timeline.json, from 1; 0: none
    /// Of a run that goes on: the metrics until there, with their header (metrics_until()).
    std::string metrics{};
    Bytes room = 0;  ///< kept free on the disk until give_back_room()
    std::function<void(const Error&)> on_warning{};
  };

  /// Makes the folder with job.toml and the first line of the metrics. Errors: those of RunFolder;
  /// the room is not there.
  static Expected<Recorder> begin(const Options& options, std::string_view job);

  /// From the first call on the folder stays.
  void step(const StepOutcome& outcome);
  void validation(const ValidationLine& line);
  /// Writes a file of the folder that is a result of the run.
  void write_result(std::string_view name, std::string_view bytes);
  /// A file that is there to be looked at.
  void write_to_look_at(std::string_view name, std::string_view bytes);
  /// Before that is written for which it was kept.
  void give_back_room() { room_.give_back(); }
  /// Tries once more what could not be written. Errors: the first result that is missing.
  Expected<void> end();

  const std::string& folder() const { return folder_.path(); }
  std::string file(std::string_view name) const { return folder_.file(name); }

 private:
  Recorder(const Options& options, RunFolder folder)
      : options_(options), folder_(std::move(folder)) {}
  void append(const std::string& line);
  void write_last_step(const StepOutcome& outcome);
  void warn(const Error& error);

  Options options_;
  RunFolder folder_;
  DiskRoom room_;
  Nanoseconds last_step_due_ = 0;  // when last_step.json may be written next
  std::set<std::string> warned_;   // files
  std::optional<Error> missing_;   // the first result that could not be written
};

}  // namespace plait
