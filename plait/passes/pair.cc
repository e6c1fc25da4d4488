#include <utility>
#include <vector>

#include "plait/passes/arrived.h"
#include "plait/passes/check_input.h"
#include "plait/passes/missing_input.h"
#include "plait/passes/passes.h"
#include "plait/passes/priced_pair.h"
#include "plait/passes/rank_set.h"
#include "plait/passes/rewrite.h"
#include "plait/passes/value_numbers.h"

namespace plait {
namespace {

using passes_detail::first_missing;
using passes_detail::kNone;
using passes_detail::RankSet;
using passes_detail::ValueNumbers;

/// Not by ListClock (ir/list_clock.h), which runs the members of a pair one after the other and
/// keeps two times for each (stage, micro-batch): here a pair is a block, whose inputs must all be
/// there before it begins, a rank that stands still may give its pair up and go on, and of a value
/// one bit is kept, whether it is there.
///
/// Runs the lists, without idle slots, as blocks with free messages. Any two neighbours that may be
/// a pair are a block. A run that comes to its end has no circle. Where it stands still, the lowest
/// rank whose next pair lacks an input of its second member only gives that pair up, and runs its
/// first member alone. Whether a run with given blocks stands still does not depend on the order in
/// which ranks are advanced, so the outcome is determined.
class PairChooser {
 public:
  PairChooser(const Schedule& schedule, bool inputs_too)
      : schedule_(schedule),
        inputs_too_(inputs_too),
        values_(schedule),
        arrived_(values_),
        next_(schedule.ranks.size()),
        alone_(schedule.ranks.size()),
        waits_for_(schedule.ranks.size(), kNone),
        can_give_up_(schedule.ranks.size()) {
    for (const std::vector<Action>& list : schedule.ranks) pairs_.emplace_back(list.size());
  }

  /// For each rank the positions whose action and the next one are a pair.
  Expected<std::vector<std::vector<bool>>> run() {
    for (std::size_t rank = 0; rank < next_.size(); ++rank) ready_.push_back(rank);
    while (true) {
      while (!ready_.empty()) {
        const std::size_t rank = ready_.back();
        ready_.pop_back();
        advance(rank);
      }
      const std::size_t rank = can_give_up_.next(0);
      if (rank == kNone) break;
      can_give_up_.erase(rank);
      alone_[rank] = true;
      waits_for_[rank] = kNone;
      ready_.push_back(rank);
    }
    for (std::size_t rank = 0; rank < next_.size(); ++rank) {
      if (next_[rank] < schedule_.ranks[rank].size())
        return passes_detail::no_rank_can_go_on(schedule_, values_, next_, arrived_);
    }
    return std::move(pairs_);
  }

 private:
  bool may_pair(const std::vector<Action>& list, std::size_t position) const {
    if (position + 1 >= list.size()) return false;
    const auto backward = [&](const Action& action) {
      return action.type == ActionType::kBackward ||
             (inputs_too_ && action.type == ActionType::kBackwardInput);
    };
    const Action& one = list[position];
    const Action& other = list[position + 1];
    return one.microbatch != other.microbatch &&
           ((one.type == ActionType::kForward && backward(other)) ||
            (other.type == ActionType::kForward && backward(one)));
  }

  void advance(std::size_t rank) {
    const std::vector<Action>& list = schedule_.ranks[rank];
    while (next_[rank] < list.size()) {
      const std::size_t begin = next_[rank];
      const bool pairs = !alone_[rank] && may_pair(list, begin);
      waits_for_[rank] = first_missing(list, begin, values_, arrived_).value;
      if (waits_for_[rank] != kNone) return;
      if (pairs) {
        waits_for_[rank] = first_missing(list, begin + 1, values_, arrived_).value;
        if (waits_for_[rank] != kNone) {
          can_give_up_.insert(rank);
          return;
        }
        pairs_[rank][begin] = true;
      }
      alone_[rank] = false;
      next_[rank] = begin + (pairs ? 2U : 1U + list[begin].members);
      for (std::size_t i = begin; i < next_[rank]; ++i) finish(list[i]);
    }
  }

  void finish(const Action& action) {
    const int consumer = values_.consumer(action);
    if (consumer < 0) return;
    const std::size_t value =
        values_.number(direction_of(action.type), consumer, action.microbatch);
    arrived_.add(value);
    const std::size_t reader = values_.rank_of(consumer, action.microbatch);
    if (waits_for_[reader] != value) return;
    waits_for_[reader] = kNone;
    can_give_up_.erase(reader);
    ready_.push_back(reader);
  }

  const Schedule& schedule_;
  bool inputs_too_;
  ValueNumbers values_;
  passes_detail::Arrived arrived_;
  std::vector<std::size_t> next_;
  std::vector<bool> alone_;  // the rank's next action was given up as a pair's first
  std::vector<std::size_t> waits_for_;
  RankSet can_give_up_;
  std::vector<std::size_t> ready_;
  std::vector<std::vector<bool>> pairs_;
};

}  // namespace

Expected<Schedule> pair(Schedule schedule, const PassOptions& options) {
  PLAIT_TRY_VOID(passes_detail::check_input(schedule, passes_detail::Communication::kRefused));
  PLAIT_TRY(schedule, drop_idle(std::move(schedule), {}));
  if (options.price)
    return passes_detail::choose_pairs(schedule, options.number > 0, options.price);
  PLAIT_TRY(const std::vector<std::vector<bool>> pairs,
            PairChooser(schedule, options.number > 0).run());
  return passes_detail::rewrite_lists(
      std::move(schedule),
      [&](std::size_t rank, const std::vector<Action>& list, std::vector<Action>& output) {
        for (std::size_t i = 0; i < list.size(); ++i) {
          if (pairs[rank][i]) output.push_back({-1, -1, ActionType::kOverlapFB, 2});
          output.push_back(list[i]);
        }
      });
}

}  // namespace plait
