/// The run over a schedule that decides where receives stand: what insert-comm and place-recv
/// share.
#pragma once

#include <cstdint>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait::passes_detail {

enum class Sends : std::uint8_t {
  kInserted,  ///< the input has none; each is put right behind its producer
  kKept,      ///< the input has them; its receives are taken out
};

/// Sweeps the ranks in ascending order, one block each where its inputs are there, and puts each
/// receive at what is the end of the receiver's list when its send's turn comes.
///
/// A rank that waits leaves the sweep until its input comes, so that waiting costs nothing.
/// Requires check_input. Errors: no rank can go on (names each, and what it waits for). Cost:
/// O(actions
/// + sweeps * P / 64); memory beside input and output, whose lists are reserved exactly, O(S * M)
/// bits. A rank's input is freed when it has been read.
Expected<Schedule> sweep(Schedule input, Sends sends);

}  // namespace plait::passes_detail
