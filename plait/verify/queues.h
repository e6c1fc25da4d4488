/// The first-in-first-out queues in which messages wait, at each of their ends.
#pragma once

#include <cstdint>
#include <vector>

#include "plait/verify/rule_input.h"

namespace plait::verify_detail {

/// A rank's queue is the positions of its messages in list order, so that none is built up while a
/// run goes on: a queue is a slice of an array and the number of its head. Needs a schedule whose
/// actions are in location. Memory: 4 bytes for each communication action.
class Queues {
 public:
  Queues(const RuleInput& input, Matching matching);

  std::size_t size() const { return rank_.size(); }
  std::size_t queue_of(const Action& action) const {
    return queue_of_[kind(action, holders_->copy_of(action.microbatch))];
  }
  int rank(std::size_t queue) const { return rank_[queue]; }
  bool empty(std::size_t queue) const { return head_[queue] == begin_[queue + 1]; }
  /// Position of the head in its rank's list. Needs a queue that is not empty.
  std::int32_t head(std::size_t queue) const { return positions_[head_[queue]]; }
  void pop(std::size_t queue) { ++head_[queue]; }
  /// Positions that have not been popped, head first.
  const std::int32_t* begin(std::size_t queue) const { return positions_.data() + head_[queue]; }
  const std::int32_t* end(std::size_t queue) const { return positions_.data() + begin_[queue + 1]; }

 private:
  std::size_t kind(const Action& action, int copy) const {
    const std::size_t type =
        static_cast<std::size_t>(action.type) - static_cast<std::size_t>(ActionType::kSendF);
    return (type * static_cast<std::size_t>(holders_->copies()) + static_cast<std::size_t>(copy)) *
               static_cast<std::size_t>(holders_->stages()) +
           static_cast<std::size_t>(action.stage);
  }
  void number(Matching matching);
  void fill(const Schedule& schedule);
  void fill_by_rank(const Schedule& schedule);

  const Holders* holders_;
  int ranks_;
  std::vector<std::uint32_t> queue_of_;  // by type, copy and stage
  std::vector<int> rank_;                // by queue
  std::vector<std::size_t> begin_;       // of each queue's slice, and the end of the last
  std::vector<std::size_t> head_;
  std::vector<std::int32_t> positions_;
};

}  // namespace plait::verify_detail
