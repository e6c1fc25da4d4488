/// The rules of the proof, in one table. Each appends its findings. Rules use ir's types, and none
/// of its analyses.
///
/// Local rules see one rank's list at a time through a RankView, whose table stays in the cache;
/// the others go over the whole schedule and keep bits or 32-bit numbers by message. Nothing but a
/// finding allocates per action.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "plait/ir/schedule.h"
#include "plait/verify/findings.h"
#include "plait/verify/rank_view.h"
#include "plait/verify/rule_input.h"
#include "plait/verify/verify.h"

namespace plait::verify_detail {

// Shape comes first: if it fails, nothing else can be indexed.
void check_shape(const Schedule& schedule, const VerifyOptions& options, Diagnostics& findings);

void check_range(const RuleInput& input, Diagnostics& findings);
void check_placement(const RuleInput& input, Diagnostics& findings);
void check_pair(const RankView& view, Diagnostics& findings);
void check_duplicate(const RankView& view, Diagnostics& findings);
void check_completeness(const RankView& view, Diagnostics& findings);
void check_local_order(const RankView& view, Diagnostics& findings);
void check_unshard(const RankView& view, Diagnostics& findings);
void check_accumulation_order(const RankView& view, Diagnostics& findings);
void check_memory_cap(const RankView& view, Diagnostics& findings);
void check_residency(const RankView& view, Diagnostics& findings);
void check_send_wait(const RuleInput& input, Diagnostics& findings);
void check_reduce_wait(const RuleInput& input, Diagnostics& findings);
void check_collective_order(const RuleInput& input, Diagnostics& findings);
void check_message_match(const RuleInput& input, Diagnostics& findings);
void check_message_order(const RuleInput& input, Diagnostics& findings);
void check_dependence_cycle(const RuleInput& input, Diagnostics& findings);
void check_deadlock(const RuleInput& input, Diagnostics& findings);

/// True if the rank has every message it should, and no other. If that holds of all ranks,
/// message-match has nothing to find.
bool holds_its_messages(const RankView& view);
/// True if the step ends under the coarsest required matching. Then both ends of every edge list
/// its messages in the same order and it ends under the finer ones too (deadlock.cc): message-order
/// and deadlock have nothing to find. False if no matching is required.
bool step_ends(const RuleInput& input);
/// The same of one queue per rank.
bool step_ends_per_rank(const RuleInput& input);

/// Which schedules a rule is checked on.
enum class RuleScope : std::uint8_t { kAny, kComputeOnly, kLowered };

/// What a rule's findings mean for the others.
enum class RuleRole : std::uint8_t {
  kBasis,   ///< rules of kFollow rely on it
  kFollow,  ///< runs the lists: checked only if every kBasis and kFollow rule before it holds
  kApart,   ///< relies on no rule, and no rule relies on it
};

/// What a run of a schedule that breaks the rule shows.
enum class RuleEffect : std::uint8_t {
  kStatic,  ///< the step may end with the right values all the same
  kWrong,   ///< a value is wrong or missing, or the step stands still
  kStands,  ///< the step stands still
  kExceeds  ///< more is kept than was allowed, or another order than was asked for
};

struct RuleInfo {
  std::string_view id;
  std::string_view summary;
  RuleScope scope;
  RuleRole role;
  RuleEffect effect;
  // One of the two.
  void (*check_rank)(const RankView&, Diagnostics&);
  void (*check_schedule)(const RuleInput&, Diagnostics&);
};

inline constexpr std::array kRules = {
    RuleInfo{"range", "stages and micro-batches are within the schedule's numbers", RuleScope::kAny,
             RuleRole::kBasis, RuleEffect::kStatic, nullptr, check_range},
    RuleInfo{"pair",
             "a pair holds compute actions of different micro-batches, a forward and a backward",
             RuleScope::kAny, RuleRole::kBasis, RuleEffect::kStatic, check_pair, nullptr},
    RuleInfo{"completeness", "every stage does every micro-batch's forward and its backward",
             RuleScope::kAny, RuleRole::kBasis, RuleEffect::kWrong, check_completeness, nullptr},
    RuleInfo{"placement", "every action stands on the rank that holds its stage", RuleScope::kAny,
             RuleRole::kBasis, RuleEffect::kStatic, nullptr, check_placement},
    RuleInfo{"duplicate", "nothing is done twice", RuleScope::kAny, RuleRole::kBasis,
             RuleEffect::kWrong, check_duplicate, nullptr},
    RuleInfo{"local-order", "on each rank everything stands after what it needs from that rank",
             RuleScope::kAny, RuleRole::kBasis, RuleEffect::kWrong, check_local_order, nullptr},
    RuleInfo{"unshard",
             "where a rank unshards, a stage computes between its UNSHARD and its RESHARD, and the "
             "two alternate",
             RuleScope::kAny, RuleRole::kApart, RuleEffect::kWrong, check_unshard, nullptr},
    RuleInfo{"residency", "no rank has more stages unsharded at a time than it may",
             RuleScope::kAny, RuleRole::kApart, RuleEffect::kExceeds, check_residency, nullptr},
    RuleInfo{"accumulation-order",
             "nothing is added to a stage's gradient after its REDUCE_GRAD; on request "
             "micro-batches ascend",
             RuleScope::kAny, RuleRole::kApart, RuleEffect::kWrong, check_accumulation_order,
             nullptr},
    RuleInfo{"memory-cap", "no rank keeps more stage activations than it may", RuleScope::kAny,
             RuleRole::kApart, RuleEffect::kExceeds, check_memory_cap, nullptr},
    RuleInfo{"collective-order",
             "the ranks that hold copies of the same stages reduce their gradients in the same "
             "order, all of them or none",
             RuleScope::kAny, RuleRole::kApart, RuleEffect::kWrong, nullptr,
             check_collective_order},
    RuleInfo{"send-wait",
             "where a schedule has waits, every send has one behind it, and every wait for a send "
             "its send before it",
             RuleScope::kAny, RuleRole::kBasis, RuleEffect::kWrong, nullptr, check_send_wait},
    RuleInfo{"reduce-wait",
             "where a schedule has waits, every reduction that one rank holds has one, and at most "
             "one is pending on a rank",
             RuleScope::kAny, RuleRole::kApart, RuleEffect::kWrong, nullptr, check_reduce_wait},
    RuleInfo{"message-match",
             "every value that crosses ranks is sent once and received once, and nothing else is",
             RuleScope::kLowered, RuleRole::kBasis, RuleEffect::kWrong, nullptr,
             check_message_match},
    RuleInfo{"message-order", "both ends of a directed edge list its messages in the same order",
             RuleScope::kLowered, RuleRole::kFollow, RuleEffect::kStands, nullptr,
             check_message_order},
    RuleInfo{"dependence-cycle", "no rank waits in a circle, even if messages were free",
             RuleScope::kComputeOnly, RuleRole::kFollow, RuleEffect::kStands, nullptr,
             check_dependence_cycle},
    RuleInfo{"deadlock",
             "every step ends without buffering, with messages matched per directed edge, per pair "
             "of ranks and per rank",
             RuleScope::kLowered, RuleRole::kFollow, RuleEffect::kStands, nullptr, check_deadlock},
};

}  // namespace plait::verify_detail
