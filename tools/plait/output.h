/// Standard output, checked: every command prints through it, and main() tells what was not
/// written.
#pragma once

#include <fmt/core.h>

#include <string_view>

namespace plait::tools {

/// Before anything is opened: a closed standard stream is given a descriptor that refuses to be
/// written, so that no file takes its number and gets what is printed.
void reserve_standard_streams();

/// Never throws; the first failure is kept for finish_output().
void print_text(std::string_view text);

template <typename... Values>
void print(fmt::format_string<Values...> format, Values&&... values) {
  print_text(fmt::format(format, std::forward<Values>(values)...));
}

/// Hands what was printed to the system, for what is watched as it comes.
void flush_output();

/// Flushes and closes standard output, at the end of the process. The exit code to end with:
/// `exit_code`, or where that is 0 and something was not written, kExitFailed, with an error on
/// stderr. A reader that went away is no error to tell of: kExitPipe.
int finish_output(int exit_code);

}  // namespace plait::tools
