#include "tools/plait/terminal.h"

#include <fmt/core.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string_view>
#include <thread>
#include <utility>

namespace plait::tools {
namespace {

constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[2J";
constexpr std::string_view kLeave = "\x1b[?25h\x1b[?1049l";

// A signal handler can reach nothing but globals.
std::atomic<bool> on_second_screen = false;
std::atomic<bool> keys_are_raw = false;
termios as_it_was{};

/// A terminal that went away is none of ours to report.
void write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (written <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

bool is_terminal() {
  const char* kind = std::getenv("TERM");
  return isatty(STDOUT_FILENO) == 1 && (kind == nullptr || std::string_view(kind) != "dumb");
}

bool has_colours() {
  const char* asked_not_to = std::getenv("NO_COLOR");
  return is_terminal() && (asked_not_to == nullptr || *asked_not_to == '\0');
}

TerminalSize terminal_size() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return {};
  return {size.ws_col, size.ws_row};
}

ScreenStyle screen_style(std::string keys) {
  const TerminalSize size = terminal_size();
  return {has_colours(), size.columns, size.rows,
          static_cast<int>(std::thread::hardware_concurrency()), std::move(keys)};
}

SecondScreen::SecondScreen() {
  std::fflush(stdout);
  on_second_screen = true;
  write_all(kEnter);
}

void SecondScreen::show(const std::vector<std::string>& lines) {
  if (!on_second_screen) return;  // a handler has left it
  std::string frame;
  // Each line is cleared before it is written: behind the last column the cursor stands on it.
  for (std::size_t i = 0; i < lines.size(); ++i)
    frame += fmt::format("\x1b[{};1H\x1b[K{}", i + 1, lines[i]);
  if (lines.empty() || static_cast<int>(lines.size()) < terminal_size().rows)
    frame += fmt::format("\x1b[{};1H\x1b[J", lines.size() + 1);
  write_all(frame);
}

void SecondScreen::leave() {
  if (on_second_screen.exchange(false)) write_all(kLeave);
}

Keys::Keys() {
  if (tcgetattr(STDIN_FILENO, &as_it_was) != 0) return;
  termios raw = as_it_was;
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  raw.c_cc[VMIN] = 0;
  raw.c_cc[VTIME] = 0;
  raw.c_cc[VSUSP] = _POSIX_VDISABLE;  // stopped, it would leave the second screen behind
  keys_are_raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

char Keys::wait(int milliseconds) {
  pollfd input{keys_are_raw ? STDIN_FILENO : -1, POLLIN, 0};
  char key = 0;
  if (poll(&input, 1, milliseconds) <= 0) return 0;
  if (read(STDIN_FILENO, &key, 1) == 1) return key;
  // The terminal is gone, poll() would not wait any more.
  const timespec pause{0, 100'000'000};
  nanosleep(&pause, nullptr);
  return 0;
}

void Keys::leave() {
  if (keys_are_raw.exchange(false)) tcsetattr(STDIN_FILENO, TCSANOW, &as_it_was);
}

}  // namespace plait::tools
