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

/// Runs every rule over a lowered schedule and returns it as proven, or every violation.
///
/// Needs sends and receives wherever a value crosses ranks (passes/insert_comm.h). Messages are
/// matched first in, first out, per directed edge, per pair of ranks and per rank; a schedule must
/// be free of deadlock under all three, without buffering. Cost: O(actions). Thread-safe.
tl::expected<VerifiedSchedule, Diagnostics> verify(Schedule schedule);

/// The rules that need no messages, and the order of dependences across ranks, over a
/// compute-only schedule. Empty if it is sound. Cost: O(actions).
Diagnostics check_compute_order(const Schedule& schedule);

/// A schedule that passed every rule. Only verify() makes one.
class VerifiedSchedule {
 public:
  const Schedule& schedule() const { return schedule_; }
  const Placement& placement() const { return schedule_.placement; }
  /// One line: counts of actions and messages, rules, matching disciplines.
  std::string summary() const;

 private:
  friend tl::expected<VerifiedSchedule, Diagnostics> verify(Schedule schedule);
  explicit VerifiedSchedule(Schedule schedule) : schedule_(std::move(schedule)) {}
  Schedule schedule_;
};

}  // namespace plait
