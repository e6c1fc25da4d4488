#include <fmt/format.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

/// Positions of a pair count as one: its members' inputs are there before the pair starts.
class LocalOrder {
 public:
  LocalOrder(const RuleInput& input, Diagnostics& findings) : input_(input), findings_(findings) {}

  void check(Place place, Place block, const Action& action) {
    const int stage = action.stage;
    const int mb = action.microbatch;
    switch (action.type) {
      case ActionType::kForward:
        needs_neighbour(place, block, action, stage - 1, ActionType::kForward, ActionType::kRecvF);
        break;
      case ActionType::kBackward:
      case ActionType::kBackwardInput:
        needs(place, block, action, ActionType::kForward, stage);
        needs_neighbour(place, block, action, stage + 1, backward_of(stage + 1, mb),
                        ActionType::kRecvB);
        break;
      case ActionType::kBackwardWeight:
        needs(place, block, action, ActionType::kBackwardInput, stage);
        break;
      case ActionType::kSendF:
        needs(place, block, action, ActionType::kForward, stage);
        break;
      case ActionType::kSendB:
        needs(place, block, action, backward_of(stage, mb), stage);
        break;
      default:
        break;
    }
  }

 private:
  ActionType backward_of(int stage, int microbatch) const {
    const bool split = stage < input_.stages() &&
                       input_.index.first(ActionType::kBackwardInput, stage, microbatch).found();
    return split ? ActionType::kBackwardInput : ActionType::kBackward;
  }

  /// The value of the stage before or behind: made on this rank, or received.
  void needs_neighbour(Place place, Place block, const Action& action, int neighbour,
                       ActionType producer, ActionType receive) {
    if (neighbour < 0 || neighbour >= input_.stages()) return;
    if (!input_.crosses(action.stage, neighbour, action.microbatch)) {
      needs(place, block, action, producer, neighbour);
    } else if (input_.index.first(receive, action.stage, action.microbatch).found()) {
      needs(place, block, action, receive, action.stage);
    }  // a missing receive is message-match's to report
  }

  void needs(Place place, Place block, const Action& action, ActionType type, int stage) {
    const Place needed = input_.index.first(type, stage, action.microbatch);
    // What is missing is completeness's to report, what stands on a wrong rank placement's.
    if (!needed.found() || needed.rank != place.rank || needed.position < block.position) return;
    const std::string name = action_name(type, stage, action.microbatch);
    add(findings_, "local-order", place,
        needed.position <= block.position + members_of(block)
            ? fmt::format("{} needs {}, which is in the same pair", action_name(action), name)
            : fmt::format("{} needs {}, which stands behind it", action_name(action), name),
        {note(needed, name)});
  }

  int members_of(Place block) const {
    return input_.schedule
        .ranks[static_cast<std::size_t>(block.rank)][static_cast<std::size_t>(block.position)]
        .members;
  }

  const RuleInput& input_;
  Diagnostics& findings_;
};

}  // namespace

void check_local_order(const RuleInput& input, Diagnostics& findings) {
  LocalOrder order(input, findings);
  Place block;
  int block_end = -1;
  for_each_action(input.schedule, [&](Place place, const Action& action) {
    if (place.rank != block.rank || place.position > block_end) {
      block = place;
      block_end = place.position + action.members;
    }
    if (input.index.in_range(action) && action.microbatch >= 0) order.check(place, block, action);
  });
}

}  // namespace plait::verify_detail
