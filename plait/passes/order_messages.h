/// order_messages(): puts the sends and receives of all ranks into one common order, which cannot
/// hang. insert-comm and place-recv share it.
#pragma once

#include <cstdint>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait::passes_detail {

enum class Sends : std::uint8_t {
  kInserted,  ///< the input has none; each is put right behind its producer
  kKept,      ///< the input has them; its receives are taken out
};

/// A sweep visits the ranks in ascending order. Each rank moves one block (an action, or a pair
/// with its members) from its input list to its output list if the block's inputs are there. Behind
/// a block stand its sends. With each send its receive is appended to the receiver's output list.
///
///   input    rank 0: 0F0 0F1             rank 1: 1F0 1F1
///   sweep 1  rank 0: 0F0 0SEND_F0        rank 1: 1RECV_F0 1F0
///   sweep 2  rank 0: … 0F1 0SEND_F1      rank 1: … 1RECV_F1 1F1
///
/// A rank whose next block lacks an input takes no turns until that input is there.
/// Needs check_input(). Errors: no rank can go on (names each, and what it waits for).
/// Cost: O(actions + sweeps * P / 64). Memory beside input and output, whose lists are reserved
/// exactly: O(S * M) bits. A rank's input is freed when it has been read.
Expected<Schedule> order_messages(Schedule input, Sends sends);

}  // namespace plait::passes_detail
