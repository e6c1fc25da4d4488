/// A file to which whole lines are appended, as long as there is room for them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "plait/base/error.h"

namespace plait {

/// Not thread-safe.
class LineFile {
 public:
  LineFile() = default;
  LineFile(LineFile&& other) noexcept;
  LineFile& operator=(LineFile&&) = delete;
  ~LineFile();

  /// Lines go behind what the file holds; it is made if it is not there.
  Expected<void> open(const std::string& path);
  /// Appends the line behind those that wait. If that fails, as on a full disk, the file ends with
  /// its last whole line, and this line waits too: the next call tries again. Errors (kIo): why the
  /// lines that wait could not be written.
  Expected<void> append(std::string_view line);
  /// At the end: writes the lines that wait. Errors (kIo): how many are missing, and why; the file
  /// has been removed.
  Expected<void> write_waiting();
  void close();

 private:
  Expected<void> write_all();

  std::string path_;
  std::string waiting_;      // at most kMostWaiting bytes of lines
  std::size_t missing_ = 0;  // lines, those that no longer fit into waiting_ among them
  std::size_t dropped_ = 0;
  std::size_t written_ = 0;  // bytes, of whole lines
  int file_ = -1;
};

}  // namespace plait
