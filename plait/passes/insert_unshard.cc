#include <algorithm>
#include <utility>
#include <vector>

#include "plait/passes/check_input.h"
#include "plait/passes/passes.h"

namespace plait {
namespace {

/// Walks a rank's list from its end and keeps the stages in the order of their next use.
///
/// While a block runs, the stages of the next uses as seen from that block are unsharded. So what
/// is unsharded and resharded between two blocks is the difference of those two sets.
class UnshardInserter {
 public:
  UnshardInserter(int stages, int most)
      : most_(static_cast<std::size_t>(most)),
        here_(static_cast<std::size_t>(stages)),
        behind_(static_cast<std::size_t>(stages)) {}

  void rewrite(std::vector<Action>& list) {
    begins_.clear();
    for (std::size_t i = 0; i < list.size(); i += 1 + list[i].members) begins_.push_back(i);
    output_.clear();
    between_.clear();
    order_.clear();
    later_.clear();
    for (std::size_t block = begins_.size(); block-- > 0;) {
      const std::size_t begin = begins_[block];
      if (is_dropped(list[begin].type)) continue;
      const std::size_t end = begin + 1 + list[begin].members;
      if (!need_stages_of(list, begin, end, block)) {
        for (std::size_t i = end; i-- > begin;) between_.push_back(list[i]);
        continue;
      }
      change_before_later_block();
      for (std::size_t i = end; i-- > begin;) output_.push_back(list[i]);
    }
    order_.clear();
    change_before_later_block();
    list.assign(output_.rbegin(), output_.rend());
  }

 private:
  struct NextUse {
    int stage;
    std::size_t block;
  };

  static bool is_dropped(ActionType type) {
    return type == ActionType::kIdle || type == ActionType::kUnshard ||
           type == ActionType::kReshard;
  }

  /// Moves the block's stages to the front of the order, the first member's first. False if none.
  bool need_stages_of(const std::vector<Action>& list, std::size_t begin, std::size_t end,
                      std::size_t block) {
    bool computes = false;
    for (std::size_t i = end; i-- > begin;) {
      if (!is_compute(list[i].type)) continue;
      computes = true;
      auto use = std::find_if(order_.begin(), order_.end(), [&](const NextUse& candidate) {
        return candidate.stage == list[i].stage;
      });
      if (use == order_.end()) use = order_.insert(use, {list[i].stage, block});
      use->block = block;
      std::rotate(order_.begin(), use, use + 1);
    }
    return computes;
  }

  /// Writes, from its end, what stands between this block and the one behind it.
  void change_before_later_block() {
    // All stages of the block that brings the last one belong to the next.
    std::size_t count = std::min(most_, order_.size());
    while (count > 0 && count < order_.size() && order_[count].block == order_[count - 1].block)
      ++count;
    now_.clear();
    for (std::size_t i = 0; i < count; ++i) now_.push_back(order_[i].stage);
    // If all that is needed from here on fits, as it did behind, only the order is another.
    const bool same_stages = count == order_.size() && count == later_.size();
    if (!same_stages && now_ != later_) {
      for (const int stage : now_) here_[static_cast<std::size_t>(stage)] = true;
      for (const int stage : later_) behind_[static_cast<std::size_t>(stage)] = true;
      for (auto stage = later_.rbegin(); stage != later_.rend(); ++stage) {
        if (!here_[static_cast<std::size_t>(*stage)])
          output_.push_back({*stage, -1, ActionType::kUnshard, 0});
      }
      std::vector<int> reshards;
      for (const int stage : now_) {
        if (!behind_[static_cast<std::size_t>(stage)]) reshards.push_back(stage);
      }
      std::sort(reshards.rbegin(), reshards.rend());
      for (const int stage : reshards) output_.push_back({stage, -1, ActionType::kReshard, 0});
      for (const int stage : now_) here_[static_cast<std::size_t>(stage)] = false;
      for (const int stage : later_) behind_[static_cast<std::size_t>(stage)] = false;
    }
    output_.insert(output_.end(), between_.begin(), between_.end());
    between_.clear();
    std::swap(now_, later_);
  }

  std::size_t most_;
  std::vector<bool> here_;    // among the next stages of this block
  std::vector<bool> behind_;  // among those of the block behind
  std::vector<std::size_t> begins_;
  std::vector<Action> output_;   // from the end
  std::vector<Action> between_;  // what computes nothing, from the block behind to here
  std::vector<NextUse> order_;
  std::vector<int> now_;
  std::vector<int> later_;
};

}  // namespace

Expected<Schedule> insert_unshard(Schedule schedule, const PassOptions& options) {
  PLAIT_TRY_VOID(passes_detail::check_input(schedule, passes_detail::Communication::kTaken));
  UnshardInserter inserter(schedule.placement.stages(), options.number);
  for (std::vector<Action>& list : schedule.ranks) inserter.rewrite(list);
  return schedule;
}

}  // namespace plait
