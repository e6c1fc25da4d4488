/// insert-comm: adds the sends and receives that carry values across ranks.
///
/// Input:  rank 0: 0F0 0B0              rank 1: 1F0 1B0
/// Output: rank 0: 0F0 0SEND_F0 0RECV_B0 0B0
///         rank 1: 1RECV_F0 1F0 1B0 1SEND_B0
#pragma once

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait {

/// Ranks take turns in ascending order, one action each; an idle slot takes its turn and is
/// dropped. A send stands right behind its producer. At the same moment its receive is appended to
/// the peer's list so far. So all lists hold their messages in one common order, which cannot hang
/// (docs/verify.md). Pairs are blocks: all inputs before, all results after.
///
/// Errors: communication in the input; an action out of range or on a wrong rank; no rank can go on
/// (names each, its action and what it waits for). Cost: O(actions + sweeps * P / 64), exact
/// memory; each rank's input is freed when it has been read (order_messages.h). Source:
/// torch.distributed.pipelining, _add_send_recv.
Expected<Schedule> insert_comm(Schedule schedule);

}  // namespace plait
