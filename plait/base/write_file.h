/// Writes files so that a failed write leaves the old one.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "plait/base/error.h"

namespace plait {

/// A file that takes its name when it is whole.
///
/// A plain file, and a name that is not taken, is written as a temporary file beside it, flushed to
/// the disk, and renamed on commit(); it keeps the permissions of the file that it replaces. A link
/// stays: the file that it points to is replaced, in that file's folder. Devices, FIFOs and open
/// descriptors (/dev/stdout, /dev/fd/3) cannot be replaced and are written through from open() on.
/// Errors (kIo): what cannot be done, and why.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  /// Without a commit() the temporary file is removed, and the old file is as it was.
  ~AtomicFile();

  Expected<void> open();
  Expected<void> write(const void* data, std::size_t bytes);
  Expected<void> commit();

 private:
  Expected<void> open_through();

  std::string path_;
  std::string target_;     // path_ with its links followed
  std::string temporary_;  // empty: not there
  int file_ = -1;
  bool through_ = false;
};

/// Replaces the file at `path` by `bytes`.
Expected<void> write_file_atomically(const std::string& path, std::string_view bytes);

}  // namespace plait
