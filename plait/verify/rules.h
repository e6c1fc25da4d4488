/// The rules of the proof, in one table. Each is a function over the schedule and an index of it
/// that adds what it finds. They lean on ir's types alone.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "plait/ir/schedule.h"
#include "plait/verify/verify.h"

namespace plait::verify_detail {

/// Where an action stands: rank and position in the rank's list.
struct Place {
  std::int32_t rank = -1;
  std::int32_t position = -1;
  bool found() const { return rank >= 0; }
};

/// First place of every (type, stage, micro-batch) that is in range.
class ActionIndex {
 public:
  explicit ActionIndex(const Schedule& schedule);
  Place first(ActionType type, int stage, int microbatch) const;
  bool in_range(const Action& action) const;

 private:
  std::size_t cell(ActionType type, int stage, int microbatch) const;
  int stages_;
  int microbatches_;
  std::vector<Place> places_;
};

struct RuleInput {
  const Schedule& schedule;
  const ActionIndex& index;

  int stages() const { return schedule.placement.stages(); }
  int last_stage() const { return stages() - 1; }
  /// True if the value that a stage gets from its neighbour crosses ranks.
  bool crosses(int stage, int other, int microbatch) const {
    return schedule.rank_of(stage, microbatch) != schedule.rank_of(other, microbatch);
  }
};

/// An action for a message: "2F0".
std::string action_name(ActionType type, int stage, int microbatch);
std::string action_name(const Action& action);
/// The action at a place, a pair with its members: "(0F7;7B3)OVERLAP_F_B".
std::string place_name(const Schedule& schedule, Place place);

/// Calls visit(rank, position, action) for every action, members of pairs too, idle slots not.
template <typename Visit>
void for_each_action(const Schedule& schedule, Visit visit) {
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const std::vector<Action>& list = schedule.ranks[rank];
    for (std::size_t position = 0; position < list.size(); ++position) {
      if (list[position].type == ActionType::kIdle) continue;
      visit(Place{static_cast<std::int32_t>(rank), static_cast<std::int32_t>(position)},
            list[position]);
    }
  }
}

void add(Diagnostics& findings, std::string_view rule, Place place, std::string message,
         std::vector<DiagnosticNote> notes = {});
DiagnosticNote note(Place place, std::string message);

// Shape comes first: if it fails, nothing else can be indexed.
void check_shape_rule(const Schedule& schedule, Diagnostics& findings);

void check_range(const RuleInput& input, Diagnostics& findings);
void check_pair(const RuleInput& input, Diagnostics& findings);
void check_placement(const RuleInput& input, Diagnostics& findings);
void check_duplicate(const RuleInput& input, Diagnostics& findings);
void check_completeness(const RuleInput& input, Diagnostics& findings);
void check_local_order(const RuleInput& input, Diagnostics& findings);
void check_message_match(const RuleInput& input, Diagnostics& findings);
void check_message_order(const RuleInput& input, Diagnostics& findings);
void check_dependence_cycle(const RuleInput& input, Diagnostics& findings);
void check_deadlock(const RuleInput& input, Diagnostics& findings);

/// Which schedules a rule speaks of.
enum class RuleScope : std::uint8_t { kAny, kComputeOnly, kLowered };

struct RuleInfo {
  std::string_view id;
  std::string_view summary;
  RuleScope scope;
  bool needs_sound;  ///< runs only if the rules above found nothing: it follows what they proved
  void (*check)(const RuleInput&, Diagnostics&);
};

inline constexpr std::array kRules = {
    RuleInfo{"range", "stages and micro-batches are within the schedule's numbers", RuleScope::kAny,
             false, check_range},
    RuleInfo{"pair",
             "a pair holds compute actions of different micro-batches, a forward and a backward",
             RuleScope::kAny, false, check_pair},
    RuleInfo{"placement", "every action stands on the rank that holds its stage", RuleScope::kAny,
             false, check_placement},
    RuleInfo{"duplicate", "nothing is done twice", RuleScope::kAny, false, check_duplicate},
    RuleInfo{"completeness", "every stage does every micro-batch's forward and its backward",
             RuleScope::kAny, false, check_completeness},
    RuleInfo{"local-order", "on each rank everything stands after what it needs from that rank",
             RuleScope::kAny, false, check_local_order},
    RuleInfo{"message-match",
             "every value that crosses ranks is sent once and received once, and nothing else is",
             RuleScope::kLowered, false, check_message_match},
    RuleInfo{"message-order", "both ends of a directed edge list its messages in the same order",
             RuleScope::kLowered, true, check_message_order},
    RuleInfo{"dependence-cycle", "no rank waits in a circle, even if messages were free",
             RuleScope::kComputeOnly, true, check_dependence_cycle},
    RuleInfo{"deadlock",
             "every step ends without buffering, with messages matched per directed edge, per pair "
             "of ranks and per rank",
             RuleScope::kLowered, true, check_deadlock},
};

}  // namespace plait::verify_detail
