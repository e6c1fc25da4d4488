/// SIGINT and SIGTERM: the first asks for a stop after the current step, the second ends at once.
#pragma once

#include <functional>

namespace plait {

/// Installs the handlers for its lifetime; one at a time per process.
class StopSignals {
 public:
  /// `on_second` runs in the handler, so it may call async-signal-safe functions only; then the
  /// process ends with 128 + signal.
  explicit StopSignals(void (*on_second)());
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The first signal that came, 0 if none did.
  static int requested();
};

}  // namespace plait
