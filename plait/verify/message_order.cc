#include <fmt/core.h>

#include "plait/ir/direction.h"
#include "plait/verify/queues.h"
#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

const Action& head_action(const RuleInput& input, const Queues& queues, std::size_t queue) {
  return input.action_at({queues.rank(queue), queues.head(queue)});
}

/// Compares the two ends of one directed edge, message by message.
void check_edge(const RuleInput& input, Queues& queues, std::size_t out, Diagnostics& findings) {
  const std::size_t in = queues.queue_of(other_end(head_action(input, queues, out)));
  for (std::size_t i = 0; !queues.empty(out) && !queues.empty(in); ++i) {
    const Location send{queues.rank(out), queues.head(out)};
    const Location receive{queues.rank(in), queues.head(in)};
    if (other_end(input.action_at(send)) != input.action_at(receive)) {
      const Action received = other_end(input.action_at(receive));
      Diagnostic& finding =
          add(findings, "message-order", receive,
              fmt::format("receives {} as message {} from rank {}, which sends {} there",
                          action_name(received), i, send.rank, action_name(input.action_at(send))),
              {note(send, fmt::format("{} is message {} to rank {}",
                                      action_name(input.action_at(send)), i, receive.rank))});
      finding.matching = Matching::kEdge;
      return;  // what follows on this edge is out of step because of this
    }
    queues.pop(out);
    queues.pop(in);
  }
}

}  // namespace

void check_message_order(const RuleInput& input, Diagnostics& findings) {
  Queues queues(input, Matching::kEdge);
  for (std::size_t queue = 0; queue < queues.size(); ++queue) {
    if (!queues.empty(queue) && is_send(head_action(input, queues, queue).type))
      check_edge(input, queues, queue, findings);
  }
}

}  // namespace plait::verify_detail
