/// What the ranks measured in a step, put together.
#pragma once

#include <array>
#include <vector>

#include "plait/program/grid.h"
#include "plait/program/rank_program.h"
#include "plait/timeline/timeline.h"

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

  /// Events of the ranks' instructions, rank by rank, without their times.
  const Timeline& untimed() const { return untimed_; }
  std::size_t event_of(int rank, std::int32_t instruction) const {
    return first_event_[static_cast<std::size_t>(rank)] + static_cast<std::size_t>(instruction);
  }
  /// By event: the message or collective it is a party to, from 0; -1 where it computes.
  const std::vector<int>& meetings() const { return meeting_of_; }
  int meeting_count() const { return meetings_; }

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
  std::vector<int> meeting_of_;
  int meetings_ = 0;
  std::vector<Exchanged> exchanged_;
};

}  // namespace plait
