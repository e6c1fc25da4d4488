/// The folder of a run: made, taken over, and taken away again if nothing came of it. No torch.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/config/job_config.h"

namespace plait {

/// What a run writes. A folder that holds anything else is not emptied.
inline constexpr std::array<std::string_view, 5> kRunFolderEntries = {
    "job.toml", "metrics.jsonl", "timeline.json", "model", "checkpoints"};  // and rank-<r>.log

/// `run.folder`, or runs/<job's name>.
std::string run_folder_path(const JobConfig& job);

/// Owned by the one process that writes it. Until keep() is called the destructor undoes what
/// create() did: new folders are removed, an overwritten run is put back.
class RunFolder {
 public:
  /// Errors (kInvalidInput): the folder exists and `overwrite` is false; it exists and is not a
  /// run's (no job.toml, or entries that no run writes); it cannot be made or written. kNotBuilt:
  /// `resume`.
  static Expected<RunFolder> create(const std::string& path, bool overwrite, bool resume = false);
  ~RunFolder();
  RunFolder(RunFolder&& other) noexcept;
  RunFolder& operator=(RunFolder&&) = delete;
  RunFolder(const RunFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return path_ + '/' + std::string(name); }

  /// job.toml, as resolved.
  Expected<void> write_job(const JobConfig& job);
  /// Once the first step is done: the folder stays, what it replaced goes.
  void keep();

 private:
  RunFolder() = default;
  std::string path_;
  std::string previous_;              ///< where the overwritten run waits; empty if none
  std::vector<std::string> created_;  ///< folders that were not there before, outermost first
  bool undo_ = false;
};

}  // namespace plait
