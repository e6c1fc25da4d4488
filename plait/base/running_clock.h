/// How long this process has run, as far as it was let.
#pragma once

#include <algorithm>
#include <functional>

#include "plait/base/units.h"

namespace plait {

/// Time of this process without the time in which it was stopped (Ctrl-Z, SIGSTOP, a paused
/// container): of the time between two readings kLongestStep counts at most. So it is read in a
/// loop, more often than that. Not thread-safe.
///
///     readings at   0   20   40   (stopped)   5040   5060 ms
///     shown         0   20   40                240    260 ms
class RunningClock {
 public:
  static constexpr Nanoseconds kLongestStep = 200'000'000;

  /// `source`: the machine's time in nanoseconds, which never falls.
  explicit RunningClock(std::function<Nanoseconds()> source = now)
      : source_(std::move(source)), last_(source_()) {}

  /// Nanoseconds since construction that count.
  Nanoseconds read() {
    const Nanoseconds time = source_();
    sum_ += std::min(time - last_, kLongestStep);
    last_ = time;
    return sum_;
  }

 private:
  std::function<Nanoseconds()> source_;
  Nanoseconds last_;
  Nanoseconds sum_ = 0;
};

}  // namespace plait
