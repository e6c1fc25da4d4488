#include "plait/base/write_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

namespace plait {
namespace {

namespace fs = std::filesystem;

tl::unexpected<Error> io_error(const std::string& path, std::string_view what) {
  return fail(ErrorCode::kIo, fmt::format("cannot {}: {}", what, std::strerror(errno)),
              ErrorPlace{.file = path});
}

/// The number in /dev/stdout, /dev/stderr, /dev/fd/N and /proc/self/fd/N.
std::optional<int> open_descriptor(std::string_view path) {
  if (path == "/dev/stdout") return STDOUT_FILENO;
  if (path == "/dev/stderr") return STDERR_FILENO;
  for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!path.starts_with(folder)) continue;
    const std::string_view digits = path.substr(folder.size());
    int number = -1;
    const char* const end = digits.data() + digits.size();
    const auto parsed = std::from_chars(digits.data(), end, number);
    if (parsed.ec == std::errc() && parsed.ptr == end) return number;
  }
  return {};
}

/// Where a path leads, also if nothing is there yet. A circle of links is left for open() to
/// refuse.
std::string follow_links(const std::string& path) {
  constexpr int kMostLinks = 40;
  fs::path target = path;
  std::error_code error;
  for (int i = 0; i < kMostLinks && fs::is_symlink(target, error); ++i) {
    const fs::path next = fs::read_symlink(target, error);
    if (error) break;
    target = next.is_absolute() ? next : target.parent_path() / next;
  }
  return target.string();
}

/// What cannot be flushed to a disk has none: a pipe, a device.
bool flush(int file) {
  return ::fsync(file) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS;
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), target_(path_) {}

AtomicFile::~AtomicFile() {
  if (file_ >= 0) ::close(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Expected<void> AtomicFile::open_through() {
  through_ = true;
  const std::optional<int> descriptor = open_descriptor(path_);
  file_ = descriptor ? ::fcntl(*descriptor, F_DUPFD_CLOEXEC, 0)
                     : ::open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
  if (file_ < 0) return io_error(path_, "write");
  return {};
}

Expected<void> AtomicFile::open() {
  struct stat old {};
  const bool exists = ::stat(path_.c_str(), &old) == 0;
  if (open_descriptor(path_) || (exists && !S_ISREG(old.st_mode))) return open_through();
  target_ = follow_links(path_);
  std::string temporary = fmt::format("{}.{}.tmp", target_, ::getpid());
  constexpr mode_t kMode = 0644;
  file_ = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, kMode);
  if (file_ < 0) return io_error(path_, "write");
  temporary_ = std::move(temporary);
  if (exists && ::fchmod(file_, old.st_mode & 07777U) != 0) return io_error(path_, "write");
  return {};
}

Expected<void> AtomicFile::write(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::write(file_, next, bytes);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return io_error(path_, "write");
    next += done;
    bytes -= static_cast<std::size_t>(done);
  }
  return {};
}

Expected<void> AtomicFile::commit() {
  if (!flush(file_)) return io_error(path_, "flush");
  if (::close(std::exchange(file_, -1)) != 0) return io_error(path_, "write");
  if (through_) return {};
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) return io_error(path_, "write");
  temporary_.clear();
  // The name lives in the folder: without this a crash may take it back.
  const std::string folder = fs::path(target_).parent_path().string();
  const int handle = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (handle >= 0) {
    ::fsync(handle);
    ::close(handle);
  }
  return {};
}

Expected<void> write_file_atomically(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  PLAIT_TRY_VOID(file.open());
  PLAIT_TRY_VOID(file.write(bytes.data(), bytes.size()));
  return file.commit();
}

}  // namespace plait
