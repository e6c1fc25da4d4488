#include "tools/plait/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "tools/plait/commands.h"

namespace plait::tools {
namespace {

int first_error = 0;  // an errno, 0: all was written

void keep_error() {
  if (first_error == 0) first_error = errno == 0 ? EIO : errno;
}

}  // namespace

void reserve_standard_streams() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream) {
    // open() gives the lowest free number, which is this one.
    if (::fcntl(stream, F_GETFD) < 0 && errno == EBADF)
      ::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

void print_text(std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) keep_error();
}

void flush_output() {
  errno = 0;
  if (std::fflush(stdout) != 0) keep_error();
}

int finish_output(int exit_code) {
  errno = 0;
  const bool failed_before = std::ferror(stdout) != 0;  // in print_text(), or in who prints himself
  if (std::fflush(stdout) != 0 || failed_before) keep_error();
  errno = 0;
  // A disk elsewhere may say only here that it is full.
  if (std::fclose(stdout) != 0) keep_error();
  if (first_error == 0) return exit_code;
  if (first_error == EPIPE) return exit_code == kExitOk ? int{kExitPipe} : exit_code;
  std::fprintf(stderr, "plait: error: cannot write standard output: %s\n",
               std::strerror(first_error));
  return exit_code == kExitOk ? int{kExitFailed} : exit_code;
}

}  // namespace plait::tools
