/// How far the ranks' clocks are apart, from what the ranks exchange with one another.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/runtime/comm.h"
#include "plait/timeline/timeline.h"

namespace plait {

/// What now() reads here: processes that give the same text read one clock. The machine's boot and
/// the process's time namespace; empty where the system says neither.
std::string clock_name();

/// By how much each rank's clock is ahead of rank 0's. No rank leaves an exchange of all before
/// every rank has entered it, so that each exchange bounds every difference from both sides; the
/// bounds of all exchanges together hold it in an interval. That needs no message to take as long
/// one way as the other. Between exchanges the interval grows by the clocks' drift. Not
/// thread-safe.
class ClockAlignment {
 public:
  /// Two clocks drift apart by at most one nanosecond in so many: 100 parts in a million, several
  /// times what the quartz of a computer does.
  static constexpr Nanoseconds kDriftsOnceIn = 10'000;

  /// By rank, the name of the clock it reads; empty names are clocks of their own.
  explicit ClockAlignment(const std::vector<std::string>& clock_names);

  /// True if all ranks read one clock: every offset and error is 0.
  bool is_one_clock() const { return clocks_ == 1; }
  /// One exchange of all ranks: by rank when it entered and when it left, by its own clock.
  /// Cost: O(ranks).
  void add(const std::vector<std::array<Nanoseconds, 2>>& exchange);
  /// By rank. Of no exchange so far, and of bounds that exclude one another since a clock was set,
  /// the error is the largest there is.
  std::vector<ClockOffset> offsets() const;
  Nanoseconds worst_error() const;

 private:
  struct Bounds {
    Nanoseconds least, most;
    Nanoseconds seen = 0;  // when they were last tightened or widened, by rank 0's clock
  };
  std::vector<int> clock_of_;  // by rank; rank 0's is 0
  int clocks_ = 0;
  std::vector<Bounds> bounds_;  // by clock
};

/// Asks every rank which clock it reads.
Expected<ClockAlignment> name_clocks(Exchange& exchange);

/// Adds so many exchanges that follow one another at once, which bound differences the closest.
/// Where all ranks read one clock it does nothing.
Expected<void> align_clocks(Exchange& exchange, int exchanges, ClockAlignment& alignment);

}  // namespace plait
