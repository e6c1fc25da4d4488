#include "plait/verify/queues.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "plait/ir/direction.h"

namespace plait::verify_detail {

Queues::Queues(const RuleInput& input, Matching matching)
    : holders_(&input.holders), ranks_(input.schedule.placement.ranks) {
  number(matching);
  if (matching == Matching::kRank) {
    fill_by_rank(input.schedule);
  } else {
    fill(input.schedule);
  }
  head_ = begin_;
  head_.pop_back();
}

void Queues::number(Matching matching) {
  std::map<std::tuple<int, int, bool>, std::uint32_t> queues;  // rank, peer, outwards
  if (matching == Matching::kRank) {  // a queue each, so that fill() need not look any up
    for (int rank = 0; rank < ranks_; ++rank) {
      queues[{rank, -1, false}] = static_cast<std::uint32_t>(rank);
      rank_.push_back(rank);
    }
  }
  const auto stages = static_cast<std::size_t>(holders_->stages());
  queue_of_.resize(4 * static_cast<std::size_t>(holders_->copies()) * stages);
  for (const ActionType type :
       {ActionType::kSendF, ActionType::kRecvF, ActionType::kSendB, ActionType::kRecvB}) {
    for (int stage = 0; stage < holders_->stages(); ++stage) {
      const Action action{stage, 0, type, 0};
      const int other = other_end(action).stage;
      if (other < 0 || other >= holders_->stages()) continue;
      for (int copy = 0; copy < holders_->copies(); ++copy) {
        const int here = holders_->rank_of_copy(stage, copy);
        const int peer = matching == Matching::kRank ? -1 : holders_->rank_of_copy(other, copy);
        const bool outwards = matching == Matching::kEdge && is_send(type);
        const auto [at, is_new] =
            queues.try_emplace({here, peer, outwards}, static_cast<std::uint32_t>(rank_.size()));
        if (is_new) rank_.push_back(here);
        queue_of_[kind(action, copy)] = at->second;
      }
    }
  }
}

void Queues::fill(const Schedule& schedule) {
  std::vector<std::size_t> count(rank_.size() + 1);
  for (const std::vector<Action>& list : schedule.ranks) {
    for (const Action& action : list) {
      if (is_communication(action.type)) ++count[queue_of(action) + 1];
    }
  }
  for (std::size_t queue = 1; queue < count.size(); ++queue) count[queue] += count[queue - 1];
  begin_ = count;
  positions_.resize(begin_.back());
  for (const std::vector<Action>& list : schedule.ranks) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (is_communication(list[i].type))
        positions_[count[queue_of(list[i])]++] = static_cast<std::int32_t>(i);
    }
  }
}

void Queues::fill_by_rank(const Schedule& schedule) {
  begin_.assign(1, 0);
  for (const std::vector<Action>& list : schedule.ranks) {
    const auto messages = std::count_if(list.begin(), list.end(), [](const Action& action) {
      return is_communication(action.type);
    });
    begin_.push_back(begin_.back() + static_cast<std::size_t>(messages));
  }
  positions_.reserve(begin_.back());
  for (const std::vector<Action>& list : schedule.ranks) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (is_communication(list[i].type)) positions_.push_back(static_cast<std::int32_t>(i));
    }
  }
}

}  // namespace plait::verify_detail
