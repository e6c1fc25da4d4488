/// Which messages of a list go with a pair that is braided.
#pragma once

#include "plait/ir/action.h"
#include "plait/ir/direction.h"

namespace plait {

/// True for what may stand between a pair and the sends that leave while it runs: messages, and the
/// wait for the send of the pair's own backward, which torch's lowering sets right behind the pair:
///
///   (1F5;6B2)OVERLAP_F_B 6WAIT_SEND_F2 1SEND_F5 6SEND_B2
///
/// That wait may move into the pair with the sends behind it: 6B2 reads a gradient that the
/// receiver of 6SEND_F2 made from it, so the message has arrived in every run in which the pair
/// ends, whatever else waits. Another wait may need what the pair makes.
constexpr bool message_of_pair(const Action& action, const Action& backward) {
  if (is_communication(action.type)) return true;
  return action.type == ActionType::kWaitSendF && action.stage == backward.stage &&
         action.microbatch == backward.microbatch;
}

}  // namespace plait
