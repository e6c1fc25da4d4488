#include "plait/base/read_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace plait {
namespace {

/// A descriptor that is closed unless it is standard input's.
struct Input {
  int descriptor;
  ~Input() {
    if (descriptor > STDIN_FILENO) ::close(descriptor);
  }
};

/// The size to begin with: a file of known size is read in one piece, and the byte more finds its
/// end.
std::size_t first_size(int descriptor) {
  constexpr std::size_t kOfPipe = 1 << 16;
  struct stat status {};
  const bool known = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  return known ? static_cast<std::size_t>(status.st_size) + 1 : kOfPipe;
}

}  // namespace

Expected<std::string> read_file(const std::string& path, std::string_view what) {
  const auto failed = [&] {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the {} file cannot be read: {}", what, std::strerror(errno)),
                ErrorPlace{.file = path});
  };
  const bool standard_input = path == kStandardInput;
  // What it was read for; a second reader would find an empty file.
  static std::string standard_input_was;
  if (standard_input && !standard_input_was.empty()) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("standard input was read as the {} file already, needed a file for "
                            "the {}",
                            standard_input_was, what),
                ErrorPlace{.file = path});
  }
  if (standard_input) standard_input_was = what;
  const Input input{standard_input ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (input.descriptor < 0) return failed();
  std::string text(first_size(input.descriptor), '\0');
  std::size_t used = 0;
  while (true) {
    if (used == text.size()) text.resize(2 * text.size());
    const ssize_t got = ::read(input.descriptor, text.data() + used, text.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed();
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
  }
  text.resize(used);
  if (text.starts_with("version https://git-lfs.github.com/spec/")) {
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("is a git-lfs pointer, needed the {} file itself: git lfs pull fetches it",
                    what),
        ErrorPlace{.file = path});
  }
  return text;
}

}  // namespace plait
