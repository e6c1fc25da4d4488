#include <fmt/core.h>

#include <map>
#include <utility>

#include "plait/ir/direction.h"
#include "plait/verify/bit_table.h"
#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

/// One bit for each send and one for each receive, in a row for each direction and sender's stage.
/// Locations are looked up only for messages that have one end.
class MessageMatch {
 public:
  MessageMatch(const RuleInput& input, Diagnostics& findings)
      : input_(input),
        holders_(input.holders),
        findings_(findings),
        sent_(2 * static_cast<std::size_t>(holders_.stages()), holders_.microbatches()),
        received_(2 * static_cast<std::size_t>(holders_.stages()), holders_.microbatches()) {}

  void run() {
    const bool all_in_place = input_.strays.empty();
    for_each_action(input_.schedule, [&](Location location, const Action& action) {
      if (!is_communication(action.type)) return;
      if (!all_in_place && !holders_.in_place(location.rank, action)) return;
      if (!has_two_ends(location, action)) return;
      const Action send = send_of(action);
      (is_send(action.type) ? sent_ : received_).set(row_of(send), send.microbatch);
    });
    for (int stage = 0; stage + 1 < holders_.stages(); ++stage) {
      check_hop(ActionType::kSendF, stage);
      if (!input_.schedule.forward_only) check_hop(ActionType::kSendB, stage + 1);
    }
    if (!single_.empty()) place_single();
  }

 private:
  static std::size_t row_of(const Action& send) {
    return 2 * static_cast<std::size_t>(send.stage) +
           static_cast<std::size_t>(direction_of(send.type));
  }

  bool has_two_ends(Location location, const Action& action) {
    const Action other = other_end(action);
    std::string what;
    if (other.stage < 0 || other.stage >= holders_.stages()) {
      what = "has no stage at its other end";
    } else if (direction_of(action.type) == Direction::kBackward && input_.schedule.forward_only) {
      what = "in a forward-only schedule";
    } else if (!holders_.crosses(action.stage, other.stage, action.microbatch)) {
      what = is_send(action.type) ? "sends to its own rank" : "receives from its own rank";
    } else {
      return true;
    }
    add(findings_, "message-match", location, fmt::format("{} {}", action_name(action), what));
    return false;
  }

  /// Every message of one stage in one direction.
  void check_hop(ActionType type, int stage) {
    for (int mb = 0; mb < holders_.microbatches(); ++mb) {
      const Action send{stage, mb, type, 0};
      const bool sent = sent_.get(row_of(send), mb);
      const bool received = received_.get(row_of(send), mb);
      if (sent && received) continue;
      const Action receive = other_end(send);
      if (!holders_.crosses(stage, receive.stage, mb)) continue;
      if (!sent && !received) {
        report_without_both(send, receive);
      } else {
        report_without_other(sent ? send : receive, sent ? receive : send);
      }
    }
  }

  int rank_of(const Action& action) const {
    return holders_.rank_of(action.stage, action.microbatch);
  }
  bool strayed(const Action& action) const {
    return input_.strayed(action.type, action.stage, action.microbatch);
  }

  void report_without_both(const Action& send, const Action& receive) {
    if (strayed(send) || strayed(receive)) return;
    add(findings_, "message-match", {rank_of(send), -1},
        fmt::format("{} is missing, and so is its receive", action_name(send)),
        {{rank_of(receive), -1, action_name(receive) + " is missing"}});
  }
  void report_without_other(const Action& action, const Action& other) {
    if (strayed(other)) return;
    single_.insert({{action.type, action.stage, action.microbatch}, findings_.size()});
    add(findings_, "message-match", {rank_of(action), -1},
        fmt::format("{} is never {}", action_name(action),
                    is_send(action.type) ? "received" : "sent"),
        {{rank_of(other), -1, action_name(other) + " is missing"}});
  }

  /// Adds to the findings where the end that is there stands.
  void place_single() {
    for_each_action(input_.schedule, [&](Location location, const Action& action) {
      if (!is_communication(action.type) || !holders_.in_place(location.rank, action)) return;
      const auto found = single_.find({action.type, action.stage, action.microbatch});
      if (found == single_.end()) return;
      Diagnostic& finding = findings_[found->second];
      if (finding.position < 0) finding.position = location.position;
    });
  }

  const RuleInput& input_;
  const Holders& holders_;
  Diagnostics& findings_;
  BitTable sent_;
  BitTable received_;
  std::map<ActionKey, std::size_t> single_;  // what has no other end, to its finding
};

}  // namespace

bool holds_its_messages(const RankView& view) {
  const Holders& holders = view.input().holders;
  if (!view.input().strays.empty()) return false;
  for (const int stage : view.stages()) {
    for (int mb = 0; mb < holders.microbatches(); ++mb) {
      if (holders.copies() > 1 && holders.rank_of(stage, mb) != view.rank()) continue;
      const auto holds = [&](ActionType type, int other, bool wanted) {
        wanted =
            wanted && other >= 0 && other < holders.stages() && holders.crosses(stage, other, mb);
        return view.has(type, stage, mb) == wanted;
      };
      const bool backward = !view.input().schedule.forward_only;
      if (!holds(ActionType::kRecvF, stage - 1, true) ||
          !holds(ActionType::kSendF, stage + 1, true) ||
          !holds(ActionType::kRecvB, stage + 1, backward) ||
          !holds(ActionType::kSendB, stage - 1, backward))
        return false;
    }
  }
  return true;
}

void check_message_match(const RuleInput& input, Diagnostics& findings) {
  MessageMatch(input, findings).run();
}

}  // namespace plait::verify_detail
