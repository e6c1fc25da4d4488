/// Keeps a second run out of a folder while one is alive in it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "plait/base/error.h"

namespace plait {

/// Holds `<folder>/.lock` by flock(2), from take() to destruction. The kernel lets go of it when
/// the process ends, however it ends: a file that is left behind locks nothing.
class FolderLock {
 public:
  static constexpr std::string_view kFile = ".lock";

  /// Errors (kInvalidInput): another process holds it, by its number and its machine; the file
  /// cannot be made. Where the file system keeps no locks, the run goes on and is_kept() is false.
  static Expected<FolderLock> take(const std::string& folder);
  enum class State : std::uint8_t {
    kHeld,    ///< a run is alive
    kLeft,    ///< one was killed: the file is there, and nobody holds it
    kAbsent,  ///< none is alive
    kUnknown  ///< the file system keeps no locks
  };
  static State state(const std::string& folder);
  /// The first of these errors, without making anything.
  static Expected<void> check(const std::string& folder);

  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&&) = delete;
  ~FolderLock();
  bool is_kept() const { return kept_; }

 private:
  FolderLock(std::string path, int file, bool kept)
      : path_(std::move(path)), file_(file), kept_(kept) {}

  std::string path_;
  int file_;
  bool kept_;
};

}  // namespace plait
