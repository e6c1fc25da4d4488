#include <algorithm>
#include <utility>
#include <vector>

#include "plait/passes/check_input.h"
#include "plait/passes/order_messages.h"
#include "plait/passes/passes.h"
#include "plait/passes/rewrite.h"
#include "plait/passes/value_numbers.h"

namespace plait {
namespace {

using passes_detail::kNone;
using passes_detail::ValueNumbers;

/// Moves a rank's receives back, from where the run put them towards their readers.
///
/// Receives keep their order and pass no send, so that each rank keeps the run's order of messages.
class ReceivePlacer {
 public:
  ReceivePlacer(const Schedule& schedule, int distance)
      : values_(schedule),
        distance_(static_cast<std::size_t>(distance)),
        waiting_(values_.size()),
        due_(values_.size()) {}

  void rewrite(const std::vector<Action>& list, std::vector<Action>& output) {
    pending_.clear();
    first_pending_ = 0;
    ahead_ = 0;
    blocks_ahead_ = 0;
    std::size_t blocks = 0;
    for (std::size_t i = 0; i < list.size();) {
      if (is_recv(list[i].type)) {
        take(list[i++], output);
        continue;
      }
      if (is_send(list[i].type)) release(pending_.size(), output);
      if (computes(list[i].type)) {
        look_ahead(list, blocks + distance_, output);
        ++blocks;
      }
      i = passes_detail::append_block(list, i, output);
    }
    release(pending_.size(), output);
  }

 private:
  static bool computes(ActionType type) {
    return is_compute(type) || type == ActionType::kOverlapFB;
  }

  void take(const Action& receive, std::vector<Action>& output) {
    const std::size_t value = values_.received(receive);
    pending_.push_back(receive);
    waiting_[value] = true;
    if (due_[value]) release(pending_.size(), output);
  }

  /// Posts the receives of all values that the compute blocks up to number `last` read.
  void look_ahead(const std::vector<Action>& list, std::size_t last, std::vector<Action>& output) {
    for (; ahead_ < list.size() && blocks_ahead_ <= last; ahead_ += 1 + list[ahead_].members) {
      if (!computes(list[ahead_].type)) continue;
      ++blocks_ahead_;
      for (std::size_t i = ahead_; i <= ahead_ + list[ahead_].members; ++i) {
        const std::size_t value = values_.needed(list[i]);
        if (value == kNone) continue;
        due_[value] = true;
        if (waiting_[value]) release_through(value, output);
      }
    }
  }

  void release_through(std::size_t value, std::vector<Action>& output) {
    std::size_t end = first_pending_;
    while (values_.received(pending_[end++]) != value) {
    }
    release(end, output);
  }

  void release(std::size_t end, std::vector<Action>& output) {
    for (; first_pending_ < end; ++first_pending_) {
      output.push_back(pending_[first_pending_]);
      waiting_[values_.received(pending_[first_pending_])] = false;
    }
    if (first_pending_ < pending_.size()) return;
    pending_.clear();
    first_pending_ = 0;
  }

  ValueNumbers values_;
  std::size_t distance_;
  std::vector<bool> waiting_;  // in pending_, by value
  std::vector<bool> due_;      // a block in reach reads it
  std::vector<Action> pending_;
  std::size_t first_pending_ = 0;
  std::size_t ahead_ = 0;         // where the look ahead stands in the list
  std::size_t blocks_ahead_ = 0;  // compute blocks before that
};

}  // namespace

Expected<Schedule> place_recv(Schedule schedule, const PassOptions& options) {
  PLAIT_TRY_VOID(passes_detail::check_input(schedule, passes_detail::Communication::kTaken));
  PLAIT_TRY_VOID(passes_detail::check_lowered(schedule));
  PLAIT_TRY(schedule,
            passes_detail::order_messages(std::move(schedule), passes_detail::Sends::kKept));
  ReceivePlacer placer(schedule, options.number);
  return passes_detail::rewrite_lists(
      std::move(schedule), [&](std::size_t /*rank*/, const std::vector<Action>& list,
                               std::vector<Action>& output) { placer.rewrite(list, output); });
}

}  // namespace plait
