/// The terminal that the command prints to.
#pragma once

#include <string>
#include <vector>

#include "plait/draw/watch.h"

namespace plait::tools {

struct TerminalSize {
  int columns = 160;
  int rows = 0;  ///< 0: as many as one likes
};

/// True if stdout is one that knows how to move its cursor: TERM is not "dumb".
bool is_terminal();

/// True if colours may be shown: on such a terminal, unless NO_COLOR is set (https://no-color.org).
bool has_colours();

/// Of stdout now; 160 columns and no end of rows if it is no terminal or does not say.
TerminalSize terminal_size();

/// Of stdout as it is now, for a screen whose last line is `keys`.
ScreenStyle screen_style(std::string keys);

/// A terminal's second screen, from construction to destruction; what it showed before is there
/// again afterwards. One at a time, and only if is_terminal().
class SecondScreen {
 public:
  SecondScreen();
  ~SecondScreen() { leave(); }
  SecondScreen(const SecondScreen&) = delete;
  SecondScreen& operator=(const SecondScreen&) = delete;

  /// Replaces all that is shown. No more lines than rows, none wider than the columns.
  static void show(const std::vector<std::string>& lines);
  /// Does nothing if there is none. Async-signal-safe: for handlers that end the process.
  static void leave();
};

/// Reads keys as they are pressed, without showing them, from construction to destruction; nothing
/// if stdin is no terminal. Ctrl-C stays a signal. One at a time.
class Keys {
 public:
  Keys();
  ~Keys() { leave(); }
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;

  /// The next key, 0 if none was pressed in that time or a signal came.
  static char wait(int milliseconds);
  /// As SecondScreen::leave().
  static void leave();
};

}  // namespace plait::tools
