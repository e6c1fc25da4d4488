/// Signals that ask for an end: SIGINT, SIGTERM, and SIGHUP unless it is ignored (nohup).
#pragma once

namespace plait {

/// Installs the handlers for its lifetime; one at a time per process. Two phases:
///
///     set-up            any signal ends the process at once, with exit code 128 + signal
///     after defer()     the first is noted, for an end after the current step;
///                       the second ends the process at once
///
/// From then on a write past a limit of file sizes (ulimit -f) fails, as on a full disk, and ends
/// no process.
class StopSignals {
 public:
  /// `before_exit` runs in the handler before the process ends at once; it may call
  /// async-signal-safe functions only. May be null.
  explicit StopSignals(void (*before_exit)(int signal));
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// From here on there is something to finish first.
  static void defer();
  /// The first signal that came after defer(), 0 if none did. Stays until the next StopSignals.
  static int requested();
};

/// SIGUSR1 asks for a report of what the ranks do, and ends nothing. One at a time per process;
/// before it and after it the signal ends the process, as by default.
class ReportSignal {
 public:
  ReportSignal();
  ~ReportSignal();
  ReportSignal(const ReportSignal&) = delete;
  ReportSignal& operator=(const ReportSignal&) = delete;

  /// True once for each time that it has come; several at once may count as one.
  static bool take();
};

/// "interrupted" for SIGINT, "hung up" for SIGHUP, else "terminated".
const char* stop_word(int signal);

}  // namespace plait
