/// RankProgram: what one rank runs, lowered from a verified schedule.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "plait/ir/action.h"
#include "plait/runtime/comm.h"
#include "plait/trace/timeline.h"
#include "plait/verify/verify.h"

namespace plait {

enum class Opcode : std::uint8_t {
  kForward,
  kBackwardInput,
  kBackwardWeight,
  kBackward,
  kSend,
  kRecv
};

inline constexpr int kNoSlot = -1;
inline constexpr int kNoWait = -1;

/// One step of a rank. Slots by opcode (kNoSlot where there is nothing):
///   forward          in: input                    out: output, saved
///   backward-input   in: saved, output gradient   out: input gradient, saved for weight
///   backward-weight  in: saved for weight
///   backward         in: saved, output gradient   out: input gradient
///   send             in: value        recv        out: value
struct Instruction {
  Opcode opcode = Opcode::kForward;
  Lane lane = Lane::kCompute;
  Action action;                ///< the action it was lowered from
  std::int32_t peer = -1;       ///< of a message: the rank at the other end
  std::int32_t pair = -1;       ///< of a pair's members: the pair's number on this rank
  std::int32_t wait = kNoWait;  ///< instruction of the other lane that must have completed
  std::array<std::int32_t, 2> in{kNoSlot, kNoSlot};
  std::array<std::int32_t, 2> out{kNoSlot, kNoSlot};
};

/// Instructions in the schedule's order; each lane runs its own in that order. A value has one
/// writer and one reader, which moves it out of its slot.
struct RankProgram {
  int rank = 0;
  int slots = 0;
  bool forward_only = false;
  std::vector<Instruction> instructions;
  std::array<std::vector<std::int32_t>, 2> lanes;  ///< indices into instructions, by Lane

  const std::vector<std::int32_t>& lane(Lane which) const {
    return lanes[static_cast<std::size_t>(which)];
  }
};

/// The message an instruction sends or receives.
Message message_of(const RankProgram& program, const Instruction& instruction);

/// "3RECV_F5 from rank 1", "3SEND_F5 to rank 1", "2W4".
std::string describe(const Instruction& instruction);

/// Lowers one rank's list. A send waits for its producer, a reader for its receive. A slot is used
/// again by a later writer only if its old reader is known to have run before: on the same lane, or
/// on the other one as far as a wait proves it. Needs schedule.lowered(). Cost: O(actions * live
/// values).
RankProgram lower(const VerifiedSchedule& schedule, int rank);

/// The timeline of a step from the times of each rank's instructions, [begin, end] flat by rank.
Timeline make_timeline(const std::vector<RankProgram>& programs,
                       const std::vector<std::vector<std::array<Nanoseconds, 2>>>& times);

}  // namespace plait
