/// The proof: the only way from a Schedule to what the simulator and the runtime take.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

#include "plait/ir/schedule.h"

namespace plait {

/// What shares one first-in-first-out queue of messages, finest first.
enum class Matching : std::uint8_t {
  kEdge,  ///< from one rank to another: tagged transports, a communicator per edge
  kPair,  ///< both directions between two ranks: one communicator of two ranks
  kRank,  ///< all messages of a rank: one stream for all peers
};

struct MatchingInfo {
  Matching matching;
  std::string_view name;    ///< of the command line
  std::string_view phrase;  ///< of messages
};

inline constexpr std::array kMatchings = {
    MatchingInfo{Matching::kEdge, "edge", "per directed edge"},
    MatchingInfo{Matching::kPair, "pair", "per pair of ranks"},
    MatchingInfo{Matching::kRank, "rank", "per rank"},
};

/// What is asked beyond the rules that always hold.
struct VerifyOptions {
  /// The step must end under each of these.
  std::vector<Matching> matchings{Matching::kEdge, Matching::kPair, Matching::kRank};
  /// Cap on stage activations that live on a rank, from F to B or W: none, one for all, or P.
  std::vector<int> max_activations{};
  /// Cap on stages of a rank that are unsharded at a time; none if not given.
  std::optional<int> max_active_stages{};
  /// The gradient of each stage must add up in ascending order of micro-batches.
  bool ascending = false;
};

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
  std::optional<Matching> matching{};  ///< of a step that does not end: under which

  /// "error: rule: rank 1 position 7: message" and a line "note: …" for each note.
  std::string text() const;
};
using Diagnostics = std::vector<Diagnostic>;

class VerifiedSchedule;

/// Runs every rule over a schedule and returns it as proven, or every violation.
///
/// A schedule is lowered if it holds any communication, or if no value crosses ranks. Lowered, it
/// needs a send and a receive wherever a value crosses (passes/insert_comm.h): messages are matched
/// first in, first out, and it must be free of deadlock under every required matching, without
/// buffering. Compute-only, its ranks must not wait in a circle even if messages were free.
/// Cost: O(actions + S*M); beside the schedule O(V*M) words for the rank at hand, and a word for
/// each message if one queue per rank is not required or the step does not end. Thread-safe.
tl::expected<VerifiedSchedule, Diagnostics> verify(Schedule schedule,
                                                   const VerifyOptions& options = {});

/// A schedule that passed every rule. Only verify() makes one.
class VerifiedSchedule {
 public:
  const Schedule& schedule() const { return schedule_; }
  const Placement& placement() const { return schedule_.placement; }
  /// Gives the schedule back for another pass: what comes out is not proven.
  Schedule take_schedule() && { return std::move(schedule_); }
  /// Its messages are proven too: what the runtime needs. The simulator takes both kinds.
  bool lowered() const { return lowered_; }
  /// What was asked of the proof.
  const VerifyOptions& options() const { return options_; }
  /// One line: counts of actions and messages, rules, matching disciplines.
  std::string summary() const;

 private:
  friend tl::expected<VerifiedSchedule, Diagnostics> verify(Schedule schedule,
                                                            const VerifyOptions& options);
  VerifiedSchedule(Schedule schedule, VerifyOptions options, bool lowered)
      : schedule_(std::move(schedule)), options_(std::move(options)), lowered_(lowered) {}
  Schedule schedule_;
  VerifyOptions options_;
  bool lowered_;
};

}  // namespace plait
