#include "plait/record/folder_lock.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace plait {
namespace {

std::string path_in(const std::string& folder) {
  return fmt::format("{}/{}", folder, FolderLock::kFile);
}

/// "process 4711 on node3".
std::string this_process() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return fmt::format("process {} on {}", getpid(), host.data());
}

tl::unexpected<Error> held_by_another(const std::string& folder, int file) {
  std::array<char, 512> text{};
  const ssize_t size = pread(file, text.data(), text.size() - 1, 0);
  const std::string holder =
      size > 0 ? std::string(text.data(), static_cast<std::size_t>(size)) : "another process";
  return fail(ErrorCode::kInvalidInput,
              fmt::format("a run is alive in the folder ({}); end it, or choose another folder "
                          "with run.folder",
                          holder),
              folder);
}

/// Who only looks whether it is held (state(), check()) holds it for a moment.
constexpr int kTries = 5;
constexpr useconds_t kPauseUs = 10'000;

enum class Answer { kLocked, kHeld, kNoLocks };

Answer lock(int file, int how) {
  while (flock(file, how | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return Answer::kHeld;
    if (errno != EINTR) return Answer::kNoLocks;
  }
  return Answer::kLocked;
}

/// False if the file was removed by its last holder after we had opened it.
bool is_the_file_at(const std::string& path, int file) {
  struct stat opened {
  }, named{};
  return fstat(file, &opened) == 0 && stat(path.c_str(), &named) == 0 &&
         opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

}  // namespace

Expected<FolderLock> FolderLock::take(const std::string& folder) {
  const std::string path = path_in(folder);
  while (true) {
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("the run folder cannot be written: {}", std::strerror(errno)), path);
    }
    Answer answer = lock(file, LOCK_EX);
    for (int tries = 1; answer == Answer::kHeld && tries < kTries; ++tries) {
      usleep(kPauseUs);
      answer = lock(file, LOCK_EX);
    }
    if (answer == Answer::kHeld) {
      tl::unexpected<Error> error = held_by_another(folder, file);
      close(file);
      return error;
    }
    if (!is_the_file_at(path, file)) {
      close(file);
      continue;
    }
    const std::string holder = this_process();
    if (ftruncate(file, 0) == 0) (void)!pwrite(file, holder.data(), holder.size(), 0);
    return FolderLock(path, file, answer == Answer::kLocked);
  }
}

Expected<void> FolderLock::check(const std::string& folder) {
  const int file = open(path_in(folder).c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  Expected<void> result;
  if (lock(file, LOCK_SH) == Answer::kHeld) result = held_by_another(folder, file);
  close(file);
  return result;
}

FolderLock::State FolderLock::state(const std::string& folder) {
  const int file = open(path_in(folder).c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return State::kAbsent;
  const Answer answer = lock(file, LOCK_SH);
  close(file);
  if (answer == Answer::kNoLocks) return State::kUnknown;
  return answer == Answer::kHeld ? State::kHeld : State::kLeft;
}

FolderLock::FolderLock(FolderLock&& other) noexcept
    : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)), kept_(other.kept_) {}

FolderLock::~FolderLock() {
  if (file_ < 0) return;
  unlink(path_.c_str());  // while it is held: whoever has opened it sees that it is gone
  close(file_);
}

}  // namespace plait
