/// What the ranks measured in a step, put together.
#pragma once

#include <array>
#include <vector>

#include "plait/runtime/grid.h"
#include "plait/runtime/program.h"
#include "plait/trace/timeline.h"

namespace plait {

/// The times of one rank's instructions, [begin, end] by its own clock.
using InstructionTimes = std::vector<std::array<Nanoseconds, 2>>;

/// Makes the timelines of the steps of one run. Who waits for whom is found out once.
class MeasuredTimeline {
 public:
  /// `programs` by pipeline rank. Cost: O(n log n) in the instructions of all ranks.
  MeasuredTimeline(const std::vector<RankProgram>& programs, const Grid& grid);

  /// `times` by global rank; `clocks` too, or empty where all ranks read one clock. Times are put
  /// on rank 0's clock. What an exchange brings was made by the member of its group whose share
  /// was made last. Cost: O(n). Thread-safe.
  Timeline make(const std::vector<InstructionTimes>& times,
                const std::vector<ClockOffset>& clocks = {}) const;
  /// Adds what the ranks held, by global rank and instruction.
  void add_memory(const std::vector<std::vector<EventMemory>>& memory, Timeline& timeline) const;

 private:
  /// An event that awaits what several ranks made, and the events that made it.
  struct Exchanged {
    std::size_t event;
    std::vector<std::size_t> makers;
  };
  void add_meetings(const std::vector<RankProgram>& programs, const Grid& grid);
  void add_makers(const std::vector<RankProgram>& programs, const Grid& grid);

  Timeline untimed_;
  std::vector<std::size_t> first_event_;  // by rank
  std::vector<int> meeting_of_;  // by event: the message or collective it is a party to, or -1
  int meetings_ = 0;
  std::vector<Exchanged> exchanged_;
};

}  // namespace plait
