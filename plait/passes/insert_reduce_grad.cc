#include <algorithm>
#include <utility>

#include "plait/passes/check_input.h"
#include "plait/passes/passes.h"
#include "plait/passes/rewrite.h"

namespace plait {
namespace {

using passes_detail::append_block;
using passes_detail::check_input;
using passes_detail::Communication;
using passes_detail::rewrite_lists;

bool accumulates(const Action& action) {
  return action.type == ActionType::kBackward || action.type == ActionType::kBackwardWeight;
}

/// A stage, and the position in the rank's list behind which it is reduced.
struct Reduction {
  std::size_t behind;
  int stage;
};

class ReduceGradInserter {
 public:
  explicit ReduceGradInserter(const Schedule& schedule)
      : copies_(schedule.placement.copies),
        last_(static_cast<std::size_t>(schedule.placement.stages())),
        reduced_(last_.size()) {
    for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
      const std::vector<Action>& list = schedule.ranks[rank];
      stages_.push_back(schedule.placement.stages_of(static_cast<int>(rank)));
      find_last(rank, list);
      for (const int stage : stages_[rank]) {
        if (last_[static_cast<std::size_t>(stage)] < list.size())
          reduced_[static_cast<std::size_t>(stage)] = true;
      }
    }
  }

  void rewrite(std::size_t rank, const std::vector<Action>& list, std::vector<Action>& output) {
    const std::vector<Reduction> reductions = reductions_of(rank, list);
    auto next = reductions.begin();
    for (std::size_t i = 0; i < list.size();) {
      if (list[i].type == ActionType::kIdle || is_reduction(list[i].type)) {
        ++i;
        continue;
      }
      i = append_block(list, i, output);
      for (; next != reductions.end() && next->behind < i; ++next) reduce(next->stage, output);
    }
    for (; next != reductions.end(); ++next) reduce(next->stage, output);
  }

 private:
  static void reduce(int stage, std::vector<Action>& output) {
    output.push_back({stage, -1, ActionType::kReduceGrad, 0});
  }

  /// Where a rank's list adds to the gradient of each of its stages for the last time, from the end
  /// until all are found. A copy without micro-batches takes part at the end.
  void find_last(std::size_t rank, const std::vector<Action>& list) {
    for (const int stage : stages_[rank]) last_[static_cast<std::size_t>(stage)] = list.size();
    std::size_t left = stages_[rank].size();
    for (std::size_t i = list.size(); i > 0 && left > 0; --i) {
      if (!accumulates(list[i - 1])) continue;
      std::size_t& last = last_[static_cast<std::size_t>(list[i - 1].stage)];
      if (last < list.size()) continue;
      last = i - 1;
      --left;
    }
  }

  std::vector<Reduction> reductions_of(std::size_t rank, const std::vector<Action>& list) {
    find_last(rank, list);
    std::vector<Reduction> reductions;
    for (const int stage : stages_[rank]) {
      const auto index = static_cast<std::size_t>(stage);
      if (reduced_[index]) reductions.push_back({last_[index], stage});
    }
    if (copies_ == 1) {
      std::sort(reductions.begin(), reductions.end(),
                [](const Reduction& a, const Reduction& b) { return a.behind < b.behind; });
    } else {
      // Ascending, so that all holders of a stage reduce in one order.
      for (std::size_t k = 1; k < reductions.size(); ++k)
        reductions[k].behind = std::max(reductions[k].behind, reductions[k - 1].behind);
    }
    return reductions;
  }

  int copies_;
  std::vector<std::vector<int>> stages_;  // by rank: those it holds
  std::vector<std::size_t> last_;         // by stage: of the rank at hand
  std::vector<bool> reduced_;             // by stage: some rank accumulates its gradients
};

}  // namespace

Expected<Schedule> insert_reduce_grad(Schedule schedule, const PassOptions& /*options*/) {
  PLAIT_TRY_VOID(check_input(schedule, Communication::kTaken));
  ReduceGradInserter inserter(schedule);
  return rewrite_lists(std::move(schedule),
                       [&](std::size_t rank, const std::vector<Action>& list,
                           std::vector<Action>& output) { inserter.rewrite(rank, list, output); });
}

}  // namespace plait
