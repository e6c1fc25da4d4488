#include <fmt/core.h>

#include <algorithm>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

/// Positions of a pair count as one: its members' inputs are there before the pair starts.
class LocalOrder {
 public:
  LocalOrder(const RankView& view, Diagnostics& findings)
      : view_(view), holders_(view.input().holders), findings_(findings) {}

  void run() {
    const std::vector<Action>& list = view_.list();
    const bool all_in_place = view_.input().strays.empty();
    std::size_t block_end = 0;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const Action& action = list[i];
      if (i >= block_end) {
        block_ = static_cast<std::int32_t>(i);
        block_end = i + 1 + action.members;
        block_last_ = static_cast<std::int32_t>(std::min(block_end, list.size()) - 1);
      }
      if (!has_microbatch(action.type)) continue;
      if (!all_in_place && !holders_.in_place(view_.rank(), action)) continue;
      check(static_cast<std::int32_t>(i), action);
    }
  }

 private:
  void check(std::int32_t position, const Action& action) {
    const int stage = action.stage;
    switch (action.type) {
      case ActionType::kForward:
        needs_neighbour(position, action, stage - 1, ActionType::kForward, ActionType::kRecvF);
        break;
      case ActionType::kBackward:
      case ActionType::kBackwardInput:
        needs(position, action, ActionType::kForward, stage);
        needs_neighbour(position, action, stage + 1, backward_of(stage + 1, action.microbatch),
                        ActionType::kRecvB);
        break;
      case ActionType::kBackwardWeight:
        needs(position, action, ActionType::kBackwardInput, stage);
        break;
      case ActionType::kSendF:
        needs(position, action, ActionType::kForward, stage);
        break;
      case ActionType::kSendB:
        needs(position, action, backward_of(stage, action.microbatch), stage);
        break;
      default:
        break;
    }
  }

  ActionType backward_of(int stage, int microbatch) const {
    return view_.has(ActionType::kBackwardInput, stage, microbatch) ? ActionType::kBackwardInput
                                                                    : ActionType::kBackward;
  }

  /// The value of the stage before or behind: made on this rank, or received. A compute-only
  /// schedule has no receives, of a lowered one message-match reports those that are missing.
  void needs_neighbour(std::int32_t position, const Action& action, int neighbour,
                       ActionType producer, ActionType receive) {
    if (neighbour < 0 || neighbour >= holders_.stages()) return;
    if (!holders_.crosses(action.stage, neighbour, action.microbatch)) {
      needs(position, action, producer, neighbour);
    } else if (view_.holds_messages()) {
      needs(position, action, receive, action.stage);
    }
  }

  void needs(std::int32_t position, const Action& action, ActionType type, int stage) {
    const std::int32_t needed = view_.position(type, stage, action.microbatch);
    // The rule `completeness` reports an action that is missing, `placement` one on a wrong rank.
    if (needed >= block_) report(position, action, needed, type, stage);
  }

  void report(std::int32_t position, const Action& action, std::int32_t needed, ActionType type,
              int stage) {
    const std::string name = action_name(type, stage, action.microbatch);
    add(findings_, "local-order", view_.location(position),
        needed <= block_last_
            ? fmt::format("{} needs {}, which is in the same pair", action_name(action), name)
            : fmt::format("{} needs {}, which stands behind it", action_name(action), name),
        {note(view_.location(needed), name)});
  }

  const RankView& view_;
  const Holders& holders_;
  Diagnostics& findings_;
  std::int32_t block_ = 0;       // where the action or its pair begins
  std::int32_t block_last_ = 0;  // and ends
};

}  // namespace

void check_local_order(const RankView& view, Diagnostics& findings) {
  LocalOrder(view, findings).run();
}

}  // namespace plait::verify_detail
