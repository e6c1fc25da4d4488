#include <fmt/format.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

/// Every hop between two neighbouring stages, in one direction.
void check_hop(const RuleInput& input, Diagnostics& findings, ActionType send, ActionType receive,
               int sender, int receiver) {
  for (int mb = 0; mb < input.schedule.microbatches; ++mb) {
    const Place sent = input.index.first(send, sender, mb);
    const Place received = input.index.first(receive, receiver, mb);
    const std::string send_name = action_name(send, sender, mb);
    const std::string receive_name = action_name(receive, receiver, mb);
    const int sender_rank = input.schedule.rank_of(sender, mb);
    const int receiver_rank = input.schedule.rank_of(receiver, mb);
    if (sender_rank == receiver_rank) {
      if (sent.found())
        add(findings, "message-match", sent, fmt::format("{} sends to its own rank", send_name));
      if (received.found()) {
        add(findings, "message-match", received,
            fmt::format("{} receives from its own rank", receive_name));
      }
    } else if (!sent.found() && !received.found()) {
      add(findings, "message-match", {sender_rank, -1},
          fmt::format("{} is missing, and so is its receive", send_name),
          {{receiver_rank, -1, receive_name + " is missing"}});
    } else if (!sent.found()) {
      add(findings, "message-match", received, fmt::format("{} is never sent", receive_name),
          {{sender_rank, -1, send_name + " is missing"}});
    } else if (!received.found()) {
      add(findings, "message-match", sent, fmt::format("{} is never received", send_name),
          {{receiver_rank, -1, receive_name + " is missing"}});
    }
  }
}

}  // namespace

void check_message_match(const RuleInput& input, Diagnostics& findings) {
  for (int stage = 0; stage < input.last_stage(); ++stage) {
    check_hop(input, findings, ActionType::kSendF, ActionType::kRecvF, stage, stage + 1);
    if (!input.schedule.forward_only) {
      check_hop(input, findings, ActionType::kSendB, ActionType::kRecvB, stage + 1, stage);
    }
  }
  // Messages that no hop asks for.
  for_each_action(input.schedule, [&](Place place, const Action& action) {
    const bool past_the_end =
        (action.type == ActionType::kSendF && action.stage == input.last_stage()) ||
        (action.type == ActionType::kRecvB && action.stage == input.last_stage());
    const bool before_the_start =
        (action.type == ActionType::kSendB || action.type == ActionType::kRecvF) &&
        action.stage == 0;
    const bool backward = action.type == ActionType::kSendB || action.type == ActionType::kRecvB;
    if (past_the_end || before_the_start) {
      add(findings, "message-match", place,
          fmt::format("{} has no stage at its other end", action_name(action)));
    } else if (backward && input.schedule.forward_only) {
      add(findings, "message-match", place,
          fmt::format("{} in a forward-only schedule", action_name(action)));
    }
  });
}

}  // namespace plait::verify_detail
