/// The folder of one run: job.toml as resolved, metrics.jsonl, rank logs, the model. Knows no
/// torch.
#pragma once

#include <fstream>
#include <string>
#include <string_view>

#include "plait/base/error.h"

namespace plait {

enum class ExistingFolder : std::uint8_t { kRefuse, kOverwrite };

/// Made before the first step; keep() makes it stay. Until then the destructor removes what was
/// made, so that a job that never began leaves nothing behind.
class RunFolder {
 public:
  /// True if create() would succeed as far as can be told without making anything. Errors
  /// (kInvalidInput) name the folder: it exists, or is not a run's folder, or cannot be written.
  static Expected<void> check(const std::string& path, ExistingFolder existing);
  static Expected<RunFolder> create(const std::string& path, ExistingFolder existing,
                                    std::string_view job);

  RunFolder(RunFolder&& other) noexcept;
  RunFolder& operator=(RunFolder&&) = delete;
  ~RunFolder();

  void keep() { kept_ = true; }
  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }
  /// Appends one line and flushes it. Errors: the file cannot be written.
  Expected<void> append_metrics(const std::string& line);

 private:
  RunFolder() = default;
  std::string path_;
  std::string topmost_made_;  ///< the topmost folder that create() made, empty if none
  bool kept_ = false;
  std::ofstream metrics_;
};

}  // namespace plait
