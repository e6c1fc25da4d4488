/// What the instructions of a run take, fitted to measured steps, and what other programs of the
/// same stages would take: also where segments exchange rows and pairs are braided.
#pragma once

#include <map>
#include <tuple>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/running_mean.h"
#include "plait/program/grid.h"
#include "plait/program/measured_timeline.h"
#include "plait/program/rank_program.h"
#include "plait/timeline/timeline.h"

namespace plait {

/// Means of many steps, of braided pairs apart from the rest: there compute and bytes take from
/// each other. Not thread-safe.
class InstructionCosts {
 public:
  /// Of the steps of these programs, which must outlive it.
  InstructionCosts(const std::vector<RankProgram>& programs, const Grid& grid)
      : programs_(programs), grid_(grid), who_(programs, grid) {}

  /// One measured step. Cost: O(n log n) in the events.
  void add(const Timeline& timeline);

  /// How much longer compute takes in braided pairs than outside, of what ran both ways: 0.1 is a
  /// tenth. 0 if nothing did.
  double interference() const;

 private:
  friend class Forecast;
  /// Opcode, stage, part, group, and whether in a braided pair.
  using Name = std::tuple<int, int, int, int, bool>;
  static Name name_of(const Instruction& instruction);
  void add_transfers(const Timeline& timeline);
  const Instruction& instruction_of(const TimelineEvent& event) const;
  /// What was seen of it, in pairs or if it was not, outside, or the other way round; or nothing.
  const RunningMean* find(Name name) const;

  const std::vector<RankProgram>& programs_;
  Grid grid_;
  MeasuredTimeline who_;
  std::map<Name, RunningMean> times_;
  RunningMean after_compute_;   // to the next instruction of the lane that was ready
  RunningMean after_transfer_;  // to its reader
  RunningMean to_issue_;        // from what the communication lane waits for
};

/// The timeline that programs would have at these costs, event by event as measured ones. Each lane
/// runs its instructions in order; a message or a collective starts when all its parties have
/// posted theirs and the links out of them are free, which it occupies while it takes.
/// A whole B that was never seen takes what its I and its W do.
/// Errors (kInvalidInput): an instruction of a kind that the costs never saw, with what it is.
/// Cost: O(n * ranks).
Expected<Timeline> forecast(const std::vector<RankProgram>& programs, const Grid& grid,
                            const InstructionCosts& costs);

}  // namespace plait
