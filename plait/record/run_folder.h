/// The folder of one run: job.toml as resolved, metrics.jsonl, rank logs, the model. Knows no
/// torch.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/record/folder_lock.h"
#include "plait/record/line_file.h"

namespace plait {

/// What is done with a folder that is there: kResume goes on in it, and needs one.
enum class ExistingFolder : std::uint8_t { kRefuse, kOverwrite, kResume };

/// The timeline of one of the last steps, replaced as the run goes on.
inline constexpr std::string_view kLastStepFile = "last_step.json";

/// All that a run writes there, beside rank-<r>.log. --overwrite spares a folder that holds
/// anything else.
inline constexpr std::array<std::string_view, 11> kRunFolderEntries = {
    "job.toml",       "metrics.jsonl", kLastStepFile, "timeline.json",         "timeline.svg",
    "costs.toml",     "model",         "checkpoints", "gradients.safetensors", ".previous",
    FolderLock::kFile};

/// Made before the first step; keep() makes it stay. Until then the destructor undoes what create()
/// did, so that a job that never began leaves nothing behind: folders that were made are removed,
/// an earlier run that was overwritten is put back (it waits in .previous). A run that goes on
/// (kResume) keeps what is there. While it lives no other run, of this process or another, can have
/// the folder.
class RunFolder {
 public:
  /// True if create() would succeed as far as can be told without making anything. Errors
  /// (kInvalidInput) name the folder: a run is alive in it, it exists, is not a run's folder, or
  /// cannot be written; the working directory is gone.
  static Expected<void> check(const std::string& path, ExistingFolder existing);
  /// `metrics`: what metrics.jsonl begins with.
  static Expected<RunFolder> create(const std::string& path, ExistingFolder existing,
                                    std::string_view job, std::string_view metrics = {});

  RunFolder(RunFolder&& other) noexcept;
  RunFolder& operator=(RunFolder&&) = delete;
  ~RunFolder();

  /// After the first step, and any later one.
  void keep();
  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }
  LineFile& metrics() { return metrics_; }
  /// False where the file system keeps no locks: a second run would not be noticed.
  bool is_locked() const { return lock_ && lock_->is_kept(); }

 private:
  RunFolder() = default;
  Expected<void> make_folders();
  Expected<void> set_previous_aside();
  void undo_files();
  void undo();

  std::string path_;
  std::vector<std::string> made_;  ///< folders that create() made, innermost first
  bool previous_ = false;          ///< an earlier run waits in .previous
  bool kept_ = true;
  LineFile metrics_;
  std::optional<FolderLock> lock_;
};

}  // namespace plait
