#include "plait/base/write_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace plait {
namespace {

tl::unexpected<Error> io_error(const std::string& path, std::string_view what) {
  return fail(ErrorCode::kIo, fmt::format("cannot {}: {}", what, std::strerror(errno)), path);
}

}  // namespace

AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)), temporary_(fmt::format("{}.{}.tmp", path_, ::getpid())) {}

AtomicFile::~AtomicFile() {
  if (file_ >= 0) ::close(file_);
  if (created_) ::unlink(temporary_.c_str());
}

Expected<void> AtomicFile::open() {
  constexpr int kMode = 0644;
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, kMode);
  if (file_ < 0) return io_error(path_, "write");
  created_ = true;
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
  if (::fsync(file_) != 0) return io_error(path_, "flush");
  const bool closed = ::close(std::exchange(file_, -1)) == 0;
  if (!closed || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    return io_error(path_, "write");
  }
  created_ = false;
  // The name lives in the folder: without this a crash may take it back.
  std::string folder = std::filesystem::path(path_).parent_path().string();
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
