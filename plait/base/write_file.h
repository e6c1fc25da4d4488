/// Writes files so that a failed write leaves the old one.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "plait/base/error.h"

namespace plait {

/// A file that takes its name when it is whole: a temporary file beside it, flushed to the disk,
/// then renamed; gone unless it was committed. Errors (kIo): what cannot be done, and why.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  Expected<void> open();
  Expected<void> write(const void* data, std::size_t bytes);
  Expected<void> commit();

 private:
  std::string path_, temporary_;
  int file_ = -1;
  bool created_ = false;
};

/// Replaces the file at `path` by `bytes`.
Expected<void> write_file_atomically(const std::string& path, std::string_view bytes);

}  // namespace plait
