/// RankProgram: what one rank runs, lowered from a verified schedule.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/action.h"
#include "plait/ir/lane.h"
#include "plait/ir/message.h"
#include "plait/program/boundary.h"
#include "plait/program/collective.h"
#include "plait/program/pair_order.h"
#include "plait/program/part.h"
#include "plait/program/shard_mode.h"
#include "plait/verify/verify.h"

namespace plait {

enum class Opcode : std::uint8_t {
  kForward,
  kBackwardInput,
  kBackwardWeight,
  kBackward,
  kRecompute,
  kSend,
  kRecv,
  kExchange,
  kExchangeBack,
  kReduceScatter,
  kReduceGather,
  kReduceEnd,
  kReduceNothing,  ///< REDUCE_GRAD or its wait, of a stage that one rank alone holds
  kUnshard,        ///< of parameters that are whole
  kReshard,        ///< of parameters that stay whole
  kWaitSend,       ///< the lane goes on when a send is over
  kUnshardGather,  ///< UNSHARD of parameters of which this rank owns a slice
  kUnshardEnd,     ///< what was gathered becomes the stage's parameters
  kReshardFree     ///< the stage's parameters go, but for the own slice
};

constexpr bool is_exchange(Opcode opcode) {
  return opcode == Opcode::kExchange || opcode == Opcode::kExchangeBack;
}
constexpr bool is_collective(Opcode opcode) {
  return is_exchange(opcode) || opcode == Opcode::kReduceScatter ||
         opcode == Opcode::kReduceGather || opcode == Opcode::kUnshardGather;
}

/// Makes a stage's parameters whole, or not whole any more.
constexpr bool is_sharding(ActionType type) {
  return type == ActionType::kUnshard || type == ActionType::kReshard;
}

inline constexpr int kNoSlot = -1;
inline constexpr int kNoWait = -1;

/// Lowered from an action so that none is skipped, and over as soon as it begins. On the compute
/// lane.
constexpr bool has_nothing_to_do(Opcode opcode) {
  return opcode == Opcode::kReduceNothing || opcode == Opcode::kUnshard ||
         opcode == Opcode::kReshard;
}

/// One step of a rank. Slots by opcode (kNoSlot where there is nothing):
///   forward          in: input                    out: output, saved
///   backward-input   in: saved, output gradient   out: input gradient, saved for weight
///   backward-weight  in: saved for weight
///   backward         in: saved, output gradient   out: input gradient
///   recompute        in: saved                    out: saved, whole again
///   send             in: value        recv        out: value
///   exchange         in: input                    out: output, saved
///   exchange-back    in: saved, gradient          out: gradient
///   reduce-scatter                                out: rows of this rank's slice
///   reduce-gather    in: rows                     out: sums
///   reduce-end       in: sums; of sharded gradients the rows, which it adds up
///   wait-send        nothing; its `wait` is the send
///   unshard-gather                                out: slices
///   unshard-end      in: slices
///   reshard-free     nothing
struct Instruction {
  Opcode opcode = Opcode::kForward;
  Lane lane = Lane::kCompute;
  Action action;  ///< the action it was lowered from
  /// Of the action's stage; of messages 0; of a REDUCE_GRAD 0 … 2; of an UNSHARD or RESHARD that
  /// moves parameters how many of its stage stand before it.
  std::int32_t part = 0;
  Group group = Group::kExpert;  ///< of a collective, and of the end of a reduction or gather
  std::int32_t peer = -1;        ///< of a message or its wait: the rank at the other end
  std::int32_t pair = -1;        ///< of a pair's members: the pair's number on this rank
  bool braided = false;          ///< and whether its lanes were woven
  std::int32_t wait = kNoWait;   ///< instruction that must have completed: of the other lane, an
                                 ///< awaited send, or a collective whose result this one passes on
  std::array<std::int32_t, 2> in{kNoSlot, kNoSlot};
  std::array<std::int32_t, 2> out{kNoSlot, kNoSlot};
};

/// Every action of the rank's list has one instruction or more; idle slots and the marks of pairs
/// are no actions. Instructions in the schedule's order, those of a braided pair in the braid's,
/// with a send of a member's result right behind the part that makes it. A REDUCE_GRAD scatters
/// where it stands, and ends at its WAIT_REDUCE_GRAD; without one, what is left of all of them
/// comes last, so that no message waits behind a gather. An UNSHARD gathers where it stands, on the
/// communication lane, behind the last RESHARD before it; gathers end in the order of their issue,
/// at the latest before the first part that needs theirs:
///
///   list   0UNSHARD 0F0 1UNSHARD 1F0 0RESHARD    compute  end 0, 0F0, end 1, 1F0, free 0
///                                                comm     gather 0, gather 1
///
/// A WAIT_SEND holds the communication lane
/// back until its send has completed, which has freed what was sent. Each lane runs its own in that
/// order. A value has one writer and one reader, which moves it out of its slot.
struct RankProgram {
  int rank = 0;  ///< in the pipeline; all columns run the same program
  int slots = 0;
  bool forward_only = false;
  std::vector<StageShape> shapes;  ///< by stage; empty: each stage is one part that computes
  std::vector<std::vector<Group>> reduced;  ///< by stage: LowerOptions
  ShardMode shard = ShardMode::kNone;
  std::vector<std::vector<Group>> sharded;  ///< by stage: LowerOptions
  Boundaries boundaries;                    ///< what its messages carry: LowerOptions
  std::vector<Instruction> instructions;
  std::array<std::vector<std::int32_t>, 2> lanes;  ///< indices into instructions, by Lane

  const std::vector<std::int32_t>& lane(Lane which) const {
    return lanes[static_cast<std::size_t>(which)];
  }
};

/// How stages and pairs are lowered.
struct LowerOptions {
  std::vector<StageShape> shapes;  ///< by stage; empty: each stage is one part that computes
  /// By stage, the groups over which its gradients add up; empty: nothing is reduced.
  std::vector<std::vector<Group>> reduced;
  ShardMode shard = ShardMode::kNone;
  /// By stage, the groups whose members own slices of its parameters; empty: none do. Not empty
  /// only if `shard` is not kNone. A stage is reduced over these groups or, in a round that
  /// accumulates, over none.
  std::vector<std::vector<Group>> sharded;
  Boundaries boundaries;  ///< what crosses them; empty: it is not declared, and not checked
  bool braid = false;     ///< pairs with exchanges are braided, others run in sequence
  LayerOrder order = default_layer_order();  ///< of a braided pair
};

/// The message an instruction sends or receives.
Message message_of(const RankProgram& program, const Instruction& instruction);

/// Whether the `number`-th UNSHARD of a stage, from 0, has something to gather. Parameters that
/// stay whole are gathered once a step: the optimiser has updated slices since the step before.
constexpr bool gathers(ShardMode mode, int number) {
  return mode == ShardMode::kParameters || (mode != ShardMode::kNone && number == 0);
}

/// The collective of an exchange, a scatter or a gather.
Collective collective_of(const Instruction& instruction);

/// "3RECV_F5 from rank 1", "3SEND_F5 to rank 1", "2W4", "2F4 dispatch 0". Ranks are those of
/// `column`.
std::string describe(const RankProgram& program, const Instruction& instruction,
                     const Column& column);

/// Lowers one rank's list. A send waits for its producer, a reader for its receive. A slot is used
/// again by a later writer only if its old reader is known to have run before: on the same lane, or
/// on the other one as far as a wait proves it. Needs schedule.lowered(). Cost: O(actions * live
/// values). No action is skipped: the schedule's switch of types has no default. Errors: a layer
/// order whose lanes wait in a circle for the stages of a pair; a stage
/// that is reduced and has no REDUCE_GRAD, or that is sharded and has no UNSHARD.
Expected<RankProgram> lower(const VerifiedSchedule& schedule, int rank,
                            const LowerOptions& options = {});

}  // namespace plait
