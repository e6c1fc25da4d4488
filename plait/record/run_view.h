/// What a run's folder says about it while it runs. Knows no torch.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/record/metrics_file.h"
#include "plait/timeline/timeline.h"

namespace plait {

/// A run as far as it has come.
struct RunView {
  std::string folder;                  ///< as the user named it
  int steps = 0;                       ///< the job's
  int threads = 1;                     ///< intra-op threads per rank
  std::vector<LossPoint> losses;       ///< of every step
  std::vector<LossPoint> validations;  ///< of every validation
  std::optional<StepLine> last;        ///< of the last step
  std::optional<Timeline> timeline;    ///< of one of the last steps
  Nanoseconds elapsed_ns = 0;          ///< of all steps, without validations
  Nanoseconds quiet_ns = 0;            ///< since the last line was written
  bool begun = false;                  ///< its folder is made
  bool ended = false;                  ///< its model is written
  bool killed = false;                 ///< it has not ended, and no process runs it any more
};

/// Keeps a RunView up to date. Only reads.
class RunFollower {
 public:
  explicit RunFollower(std::string folder);
  /// Waits for a run that is about to make the folder, and leaves one alone that is there by now.
  static RunFollower of_next_run(std::string folder);

  /// Reads what has been written since the last time, all of it at first or when another run took
  /// the folder. What a run is about to write is waited for: the view is then without. Errors
  /// (kInvalidInput): no folder, or not that of a run; a file that cannot be read, with its name
  /// and line (metrics_file.h, timeline_file.h, job_config.h). Cost: O(bytes read).
  Expected<void> refresh();
  const RunView& view() const { return view_; }

 private:
  /// Which file it is, and whether it has changed.
  struct Stamp {
    ino_t file = 0;
    off_t size = 0;
    Nanoseconds written = 0;
    bool operator==(const Stamp&) const = default;
  };
  std::string file(const char* name) const { return view_.folder + "/" + name; }
  Expected<std::optional<Stamp>> stamp_of(const char* name) const;
  /// False if the run has not got so far.
  Expected<bool> check_folder() const;
  bool is_next_run() const;
  void start_over(ino_t metrics);
  Expected<void> read_metrics(const Stamp& metrics);
  Expected<void> read_last_step();

  RunView view_;
  bool awaits_next_ = false;
  ino_t metrics_ = 0;
  off_t bytes_read_ = 0;
  MetricsReader reader_{""};
  Stamp last_step_;
};

}  // namespace plait
