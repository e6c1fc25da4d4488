#include "plait/record/disk_room.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace plait {
namespace {

int open_without_name(const std::string& folder) {
  const int file = ::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
  if (file >= 0) return file;
  // Not every file system has files without a name: NFS, older overlays.
  std::string name = folder + "/room.XXXXXX";
  const int named = ::mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

}  // namespace

DiskRoom::DiskRoom(DiskRoom&& other) noexcept : file_(std::exchange(other.file_, -1)) {}

DiskRoom& DiskRoom::operator=(DiskRoom&& other) noexcept {
  std::swap(file_, other.file_);
  return *this;
}

DiskRoom::~DiskRoom() { give_back(); }

void DiskRoom::give_back() {
  if (file_ >= 0) ::close(std::exchange(file_, -1));
}

Expected<DiskRoom> DiskRoom::take(const std::string& folder, Bytes bytes) {
  DiskRoom room;
  room.file_ = open_without_name(folder);
  int failed = 0;
  do {
    failed = ::fallocate(room.file_, 0, 0, bytes) == 0 ? 0 : errno;
  } while (failed == EINTR);
  if (failed == ENOSPC || failed == EDQUOT || failed == EFBIG) {
    return fail(ErrorCode::kIo,
                fmt::format("has no room for {} bytes: {}", bytes, std::strerror(failed)), folder);
  }
  return room;
}

}  // namespace plait
