#include "plait/record/line_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace plait {
namespace {

/// The lines of a hundred thousand steps.
constexpr std::size_t kMostWaiting = std::size_t{64} << 20;

}  // namespace

LineFile::LineFile(LineFile&& other) noexcept
    : path_(std::move(other.path_)),
      waiting_(std::move(other.waiting_)),
      missing_(other.missing_),
      dropped_(other.dropped_),
      written_(other.written_),
      file_(std::exchange(other.file_, -1)) {}

LineFile::~LineFile() { close(); }

void LineFile::close() {
  if (file_ >= 0) ::close(std::exchange(file_, -1));
}

Expected<void> LineFile::open(const std::string& path) {
  close();
  path_ = path;
  written_ = 0;
  file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  const off_t end = file_ < 0 ? -1 : ::lseek(file_, 0, SEEK_END);
  if (end >= 0) written_ = static_cast<std::size_t>(end);
  if (end >= 0) return {};
  return fail(ErrorCode::kIo, fmt::format("cannot be written: {}", std::strerror(errno)), path);
}

Expected<void> LineFile::append(std::string_view line) {
  ++missing_;
  if (waiting_.size() + line.size() < kMostWaiting) {
    waiting_ += line;
    waiting_ += '\n';
  } else {
    ++dropped_;
  }
  return write_all();
}

Expected<void> LineFile::write_waiting() {
  const Expected<void> written = write_all();
  struct stat status {};
  if (::fstat(file_, &status) == 0 && status.st_nlink == 0)
    return fail(ErrorCode::kIo, "was removed while it was written", path_);
  if (written && dropped_ == 0) return {};
  return fail(ErrorCode::kIo,
              fmt::format("{} of its lines are missing{}", missing_,
                          written ? "" : ": it " + written.error().message),
              path_);
}

Expected<void> LineFile::write_all() {
  std::size_t done = 0;
  while (done < waiting_.size()) {
    const ssize_t got = ::write(file_, waiting_.data() + done, waiting_.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const std::string why = std::strerror(errno);
      // Who reads the file finds whole lines only.
      (void)!::ftruncate(file_, static_cast<off_t>(written_));
      ::lseek(file_, static_cast<off_t>(written_), SEEK_SET);
      return fail(ErrorCode::kIo, fmt::format("cannot be written: {}", why), path_);
    }
    done += static_cast<std::size_t>(got);
  }
  written_ += done;
  waiting_.clear();
  missing_ = dropped_;
  return {};
}

}  // namespace plait
