/// Makes one timeline of the times that the ranks of a run measured.
#pragma once

#include <array>
#include <vector>

#include "plait/program/grid.h"
#include "plait/program/rank_program.h"
#include "plait/timeline/timeline.h"

namespace plait {

/// The times of one rank's instructions, [begin, end] by its own clock.
using InstructionTimes = std::vector<std::array<Nanoseconds, 2>>;

/// Makes the timelines of the steps of one run. Which event awaits which is the same in every step:
/// it is found once.
class MeasuredTimeline {
 public:
  /// `programs` by pipeline rank. Cost: O(n log n) in the instructions of all ranks.
  MeasuredTimeline(const std::vector<RankProgram>& programs, const Grid& grid);

  /// `times` and `clocks` by global rank; no clocks where all ranks read one. Times are put on rank
  /// 0's clock. An event that reads what an exchange brought awaits several makers, one on each
  /// member of the group: its awaited rank is that of the maker that ended last. Example: ranks 0
  /// and 1 end their attn 0 at 5 and 7 ms, exchange rows, and both mlp 0 await rank 1. Cost: O(n).
  /// Thread-safe.
  Timeline make(const std::vector<InstructionTimes>& times,
                const std::vector<ClockOffset>& clocks = {}) const;
  /// Adds the memory that ranks held. `memory` by global rank and instruction.
  void add_memory(const std::vector<std::vector<EventMemory>>& memory, Timeline& timeline) const;

  /// One event for each instruction, rank by rank, without times.
  const Timeline& untimed() const { return untimed_; }
  std::size_t event_of(int rank, std::int32_t instruction) const {
    return first_event_[static_cast<std::size_t>(rank)] + static_cast<std::size_t>(instruction);
  }
  /// By event: the number of its message or collective, from 0; -1 of an event that computes.
  const std::vector<int>& meetings() const { return meeting_of_; }
  int meeting_count() const { return meetings_; }

 private:
  /// A compute event that reads what an exchange brought, and the compute events of the members
  /// that made it.
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
