#include <fmt/format.h>

#include <map>
#include <utility>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

struct Post {
  Place place;
  Action action;
};

Action sent_as(Action receive) {
  const bool forward = receive.type == ActionType::kRecvF;
  receive.type = forward ? ActionType::kSendF : ActionType::kSendB;
  receive.stage += forward ? -1 : 1;
  return receive;
}

}  // namespace

void check_message_order(const RuleInput& input, Diagnostics& findings) {
  std::map<std::pair<int, int>, std::pair<std::vector<Post>, std::vector<Post>>> edges;
  for_each_action(input.schedule, [&](Place place, const Action& action) {
    if (!is_communication(action.type)) return;
    const Action sent = is_send(action.type) ? action : sent_as(action);
    const int peer_stage = sent.stage + (sent.type == ActionType::kSendF ? 1 : -1);
    auto& [sends, receives] = edges[{input.schedule.rank_of(sent.stage, sent.microbatch),
                                     input.schedule.rank_of(peer_stage, sent.microbatch)}];
    (is_send(action.type) ? sends : receives).push_back({place, sent});
  });
  for (const auto& [edge, posts] : edges) {
    const auto& [sends, receives] = posts;
    for (std::size_t i = 0; i < sends.size(); ++i) {
      if (sends[i].action == receives[i].action) continue;
      add(findings, "message-order", receives[i].place,
          fmt::format("receives {} as message {} from rank {}, which sends {} there",
                      action_name(receives[i].action), i, edge.first, action_name(sends[i].action)),
          {note(sends[i].place, fmt::format("{} is message {} to rank {}",
                                            action_name(sends[i].action), i, edge.second))});
      break;  // what follows on this edge is out of step because of this
    }
  }
}

}  // namespace plait::verify_detail
