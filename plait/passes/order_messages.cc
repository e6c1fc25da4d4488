#include "plait/passes/order_messages.h"

#include <fmt/core.h>

#include <string>
#include <utility>
#include <vector>

#include "plait/ir/action_text.h"
#include "plait/passes/arrived.h"
#include "plait/passes/missing_input.h"
#include "plait/passes/rank_set.h"
#include "plait/passes/value_numbers.h"

namespace plait::passes_detail {
namespace {

/// Not by ListClock (ir/list_clock.h): ranks take turns, one block each, and the order of the turns
/// is the order of the messages; times would be another order. It reads lists whose sends are kept
/// and frees each list behind its end, with one bit a value.
class MessageOrder {
 public:
  MessageOrder(Schedule input, Sends sends)
      : input_(std::move(input)),
        kept_(sends == Sends::kKept),
        values_(input_),
        arrived_(values_),
        next_(input_.ranks.size()),
        waits_for_(input_.ranks.size(), kNone),
        active_(input_.ranks.size()),
        lists_(input_.ranks.size()) {}

  Expected<Schedule> run() {
    reserve();
    for (std::size_t rank = 0; rank < lists_.size(); ++rank) {
      if (!input_.ranks[rank].empty()) active_.insert(rank);
      left_ += input_.ranks[rank].empty() ? 0 : 1;
    }
    while (left_ > 0) {
      std::size_t rank = active_.next(0);
      if (rank == kNone) return no_rank_can_go_on(input_, values_, next_, arrived_);
      for (; rank != kNone; rank = active_.next(rank + 1)) {
        prefetch(active_.next(rank + 1));
        take_turn(rank);
      }
    }
    input_.ranks = std::move(lists_);
    return std::move(input_);
  }

 private:
  /// The action's message: the rank that receives it, kNone if it crosses no ranks.
  std::size_t receiver(std::size_t rank, const Action& action) const {
    const int stage =
        kept_ ? (is_send(action.type) ? values_.peer_stage(action) : -1) : values_.consumer(action);
    if (stage < 0) return kNone;
    const std::size_t peer = values_.rank_of(stage, action.microbatch);
    return peer == rank ? kNone : peer;
  }

  void reserve() {
    std::vector<std::size_t> sizes(lists_.size());
    for (std::size_t rank = 0; rank < lists_.size(); ++rank) {
      for (const Action& action : input_.ranks[rank]) {
        if (action.type == ActionType::kIdle || is_recv(action.type)) continue;
        ++sizes[rank];
        const std::size_t peer = receiver(rank, action);
        if (peer == kNone) continue;
        sizes[rank] += kept_ ? 0 : 1;
        ++sizes[peer];
      }
    }
    for (std::size_t rank = 0; rank < lists_.size(); ++rank) lists_[rank].reserve(sizes[rank]);
  }

  /// With many ranks each turn is at another place of memory, far from the one before.
  void prefetch(std::size_t rank) const {
    if (rank >= lists_.size()) return;
    __builtin_prefetch(input_.ranks[rank].data() + next_[rank]);
    __builtin_prefetch(lists_[rank].data() + lists_[rank].size(), 1);
  }

  void take_turn(std::size_t rank) {
    const std::vector<Action>& list = input_.ranks[rank];
    while (next_[rank] < list.size() && is_recv(list[next_[rank]].type)) ++next_[rank];
    if (next_[rank] < list.size()) {
      const std::size_t missing = first_missing(list, next_[rank], values_, arrived_).value;
      if (missing != kNone) {
        waits_for_[rank] = missing;
        active_.erase(rank);
        return;
      }
      emit(rank);
      // Sends belong to the turn of the block they follow, whether inserted or kept.
      while (next_[rank] < list.size() && is_communication(list[next_[rank]].type)) {
        if (is_send(list[next_[rank]].type)) {
          emit(rank);
        } else {
          ++next_[rank];
        }
      }
    }
    if (next_[rank] < list.size()) return;
    std::vector<Action>().swap(input_.ranks[rank]);
    next_[rank] = 0;
    active_.erase(rank);
    --left_;
  }

  void emit(std::size_t rank) {
    const std::vector<Action>& list = input_.ranks[rank];
    const std::size_t begin = next_[rank];
    const std::size_t end = begin + 1 + list[begin].members;
    next_[rank] = end;
    if (list[begin].type == ActionType::kIdle) return;
    lists_[rank].insert(lists_[rank].end(), list.data() + begin, list.data() + end);
    for (std::size_t i = begin; i < end; ++i) hand_over(rank, list[i]);
  }

  /// Marks the consumer's input as there, and adds the message if it crosses ranks.
  void hand_over(std::size_t rank, const Action& action) {
    const std::size_t peer = receiver(rank, action);
    if (peer == kNone) {
      const int local = values_.consumer(action);
      if (local >= 0 && values_.rank_of(local, action.microbatch) == rank)
        arrived_.add(values_.number(direction_of(action.type), local, action.microbatch));
      return;
    }
    const Direction direction = direction_of(action.type);
    const Action send{action.stage, action.microbatch, send_type(direction), 0};
    const Action receive = other_end(send);
    if (!kept_) lists_[rank].push_back(send);
    lists_[peer].push_back(receive);
    const std::size_t value = values_.received(receive);
    arrived_.add(value);
    if (waits_for_[peer] != value) return;
    waits_for_[peer] = kNone;
    active_.insert(peer);
  }

  Schedule input_;
  bool kept_;
  ValueNumbers values_;
  Arrived arrived_;
  std::vector<std::size_t> next_;
  std::vector<std::size_t> waits_for_;
  RankSet active_;
  std::size_t left_ = 0;  // ranks whose list is not read to its end
  std::vector<std::vector<Action>> lists_;
};

}  // namespace

Expected<Schedule> order_messages(Schedule input, Sends sends) {
  return MessageOrder(std::move(input), sends).run();
}

}  // namespace plait::passes_detail
