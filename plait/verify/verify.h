/// The proof: the only way from a Schedule to what the simulator and the runtime take.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

#include "plait/ir/schedule.h"

namespace plait {

/// Points to the other party of a violation.
struct DiagnosticNote {
  int rank = -1;
  int position = -1;  ///< index in the rank's list, pair headers counted
  std::string message;
};

/// One violation of one rule.
struct Diagnostic {
  std::string rule;  ///< id in kebab-case, e.g. "message-order"
  int rank = -1;
  int position = -1;
  std::string message;
  std::vector<DiagnosticNote> notes;

  /// "error: rule: rank 1 position 7 (1RECV_F2): message" and a line "note: …" for each note.
  std::string text() const;
};
using Diagnostics = std::vector<Diagnostic>;

class VerifiedSchedule;

/// Runs every rule over a schedule and returns it as proven, or every violation.
///
/// A schedule is lowered if it holds any communication, or if no value crosses ranks. Lowered, it
/// needs a send and a receive wherever a value crosses (passes/insert_comm.h): messages are matched
/// first in, first out, per directed edge, per pair of ranks and per rank, and it must be free of
/// deadlock under all three, without buffering. Compute-only, its ranks must not wait in a circle
/// even if messages were free. Cost: O(actions). Thread-safe.
tl::expected<VerifiedSchedule, Diagnostics> verify(Schedule schedule);

/// A schedule that passed every rule. Only verify() makes one.
class VerifiedSchedule {
 public:
  const Schedule& schedule() const { return schedule_; }
  const Placement& placement() const { return schedule_.placement; }
  /// Its messages are proven too: what the runtime needs. The simulator takes both kinds.
  bool lowered() const { return lowered_; }
  /// One line: counts of actions and messages, rules, matching disciplines.
  std::string summary() const;

 private:
  friend tl::expected<VerifiedSchedule, Diagnostics> verify(Schedule schedule);
  VerifiedSchedule(Schedule schedule, bool lowered)
      : schedule_(std::move(schedule)), lowered_(lowered) {}
  Schedule schedule_;
  bool lowered_;
};

}  // namespace plait
