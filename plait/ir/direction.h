/// Which way values go along the stages, and the two ends of a message.
///
///   forward:   stage s --F, SEND_F--> s + 1     an output
///   backward:  stage s <--RECV_B, SEND_B-- s + 1     a gradient
///
/// Everything here is constexpr and O(1); a stage that is not there is -1 or S.
#pragma once

#include "plait/ir/action.h"
#include "plait/ir/message.h"

namespace plait {

/// F, I or B: reads the value of one neighbouring stage, and makes one for the other.
constexpr bool passes_value(ActionType type) {
  return type == ActionType::kForward || passes_gradient(type);
}
/// Of compute actions, messages and waits for sends: forward for F, SEND_F, RECV_F and WAIT_SEND_F,
/// backward for all others.
constexpr Direction direction_of(ActionType type) {
  return type == ActionType::kForward || type == ActionType::kSendF || type == ActionType::kRecvF ||
                 type == ActionType::kWaitSendF
             ? Direction::kForward
             : Direction::kBackward;
}
/// The stage that reads what `stage` makes.
constexpr int stage_after(Direction direction, int stage) {
  return direction == Direction::kForward ? stage + 1 : stage - 1;
}
/// The stage that makes what `stage` reads.
constexpr int stage_before(Direction direction, int stage) {
  return direction == Direction::kForward ? stage - 1 : stage + 1;
}
constexpr ActionType send_type(Direction direction) {
  return direction == Direction::kForward ? ActionType::kSendF : ActionType::kSendB;
}
constexpr ActionType recv_type(Direction direction) {
  return direction == Direction::kForward ? ActionType::kRecvF : ActionType::kRecvB;
}

constexpr ActionType send_wait_type(Direction direction) {
  return direction == Direction::kForward ? ActionType::kWaitSendF : ActionType::kWaitSendB;
}
/// 2SEND_F5 of 2WAIT_SEND_F5. Needs is_send_wait().
constexpr Action awaited_send(const Action& wait) {
  return {wait.stage, wait.microbatch, send_type(direction_of(wait.type)), 0};
}
/// 2WAIT_SEND_F5 of 2SEND_F5. Needs is_send().
constexpr Action wait_for_send(const Action& send) {
  return {send.stage, send.microbatch, send_wait_type(direction_of(send.type)), 0};
}

/// The receive of a send, the send of a receive: 2SEND_F5 and 3RECV_F5, 3SEND_B5 and 2RECV_B5.
/// Needs is_communication().
constexpr Action other_end(const Action& end) {
  const Direction direction = direction_of(end.type);
  if (is_send(end.type))
    return {stage_after(direction, end.stage), end.microbatch, recv_type(direction), 0};
  return {stage_before(direction, end.stage), end.microbatch, send_type(direction), 0};
}
/// The send of the message of which `end` is one end.
constexpr Action send_of(const Action& end) { return is_send(end.type) ? end : other_end(end); }
/// Its receive.
constexpr Action recv_of(const Action& end) { return is_recv(end.type) ? end : other_end(end); }

/// The message of which `end` is the send or the receive: `rank` runs it, `peer` the other end.
constexpr Message message_of(const Action& end, int rank, int peer) {
  const bool sends = is_send(end.type);
  return {sends ? rank : peer, sends ? peer : rank, direction_of(end.type), send_of(end).stage,
          end.microbatch};
}

static_assert(other_end({2, 5, ActionType::kSendF, 0}) == Action{3, 5, ActionType::kRecvF, 0});
static_assert(other_end({2, 5, ActionType::kRecvB, 0}) == Action{3, 5, ActionType::kSendB, 0});
static_assert(send_of({1, 0, ActionType::kRecvF, 0}) == Action{0, 0, ActionType::kSendF, 0});
static_assert(recv_of({1, 0, ActionType::kSendB, 0}) == Action{0, 0, ActionType::kRecvB, 0});

}  // namespace plait
