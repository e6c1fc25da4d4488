/// One entry of a rank's list: what is done to one (stage, micro-batch), or an idle slot.
///
/// Types are those of torch.distributed.pipelining, so that files go both ways (docs/glossary.md).
#pragma once

#include <cstddef>
#include <cstdint>

namespace plait {

enum class ActionType : std::uint8_t {
  kIdle,            ///< an empty cell
  kForward,         ///< F
  kBackwardInput,   ///< I
  kBackwardWeight,  ///< W
  kBackward,        ///< B, I then W
  kOverlapFB,       ///< OVERLAP_F_B: the next `members` actions run as one pair
  kSendF,           ///< SEND_F; stage is the sending stage
  kRecvF,           ///< RECV_F; stage is the receiving stage
  kSendB,           ///< SEND_B; stage is the sending stage
  kRecvB,           ///< RECV_B; stage is the receiving stage
  kUnshard,
  kReshard,
  kReduceGrad,
  kWaitSendF,  ///< WAIT_SEND_F: the rank goes on when that SEND_F is over, and frees what it sent
  kWaitSendB,  ///< WAIT_SEND_B
  kWaitReduceGrad,  ///< WAIT_REDUCE_GRAD: the rank goes on when that REDUCE_GRAD is over
};
inline constexpr std::size_t kActionTypes =
    static_cast<std::size_t>(ActionType::kWaitReduceGrad) + 1;

/// Flat: a pair is a kOverlapFB action followed by its members in the same list.
struct Action {
  std::int32_t stage = -1;       ///< -1 for idle slots and pairs
  std::int32_t microbatch = -1;  ///< -1 where the type has none
  ActionType type = ActionType::kIdle;
  std::uint16_t members = 0;  ///< of a pair: how many of the following actions belong to it

  friend bool operator==(const Action&, const Action&) = default;
};
static_assert(sizeof(Action) <= 16);

constexpr bool is_compute(ActionType type) {
  return type == ActionType::kForward || type == ActionType::kBackwardInput ||
         type == ActionType::kBackwardWeight || type == ActionType::kBackward;
}
/// Of F, I, W, B: 0 … 3.
constexpr std::size_t compute_index(ActionType type) {
  return static_cast<std::size_t>(type) - static_cast<std::size_t>(ActionType::kForward);
}
/// I or B: what reads the gradient of the stage after it, and makes the one for the stage before.
constexpr bool passes_gradient(ActionType type) {
  return type == ActionType::kBackwardInput || type == ActionType::kBackward;
}
constexpr bool is_send(ActionType type) {
  return type == ActionType::kSendF || type == ActionType::kSendB;
}
constexpr bool is_recv(ActionType type) {
  return type == ActionType::kRecvF || type == ActionType::kRecvB;
}
constexpr bool is_communication(ActionType type) { return is_send(type) || is_recv(type); }
constexpr bool is_send_wait(ActionType type) {
  return type == ActionType::kWaitSendF || type == ActionType::kWaitSendB;
}
/// Since torch 2.15. A schedule without any is one whose sends and reductions end by themselves.
constexpr bool is_wait(ActionType type) {
  return is_send_wait(type) || type == ActionType::kWaitReduceGrad;
}
/// Of a reduction of gradients: its start or its end.
constexpr bool is_reduction(ActionType type) {
  return type == ActionType::kReduceGrad || type == ActionType::kWaitReduceGrad;
}
constexpr bool has_microbatch(ActionType type) {
  return is_compute(type) || is_communication(type) || is_send_wait(type);
}

}  // namespace plait
