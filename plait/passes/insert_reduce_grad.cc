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
      : placement_(schedule.placement),
        last_(static_cast<std::size_t>(placement_.stages())),
        reduced_(last_.size()) {
    for (const std::vector<Action>& list : schedule.ranks) {
      for (const Action& action : list) {
        if (accumulates(action)) reduced_[static_cast<std::size_t>(action.stage)] = true;
      }
    }
  }

  void rewrite(std::size_t rank, const std::vector<Action>& list, std::vector<Action>& output) {
    const std::vector<Reduction> reductions = reductions_of(static_cast<int>(rank), list);
    auto next = reductions.begin();
    for (std::size_t i = 0; i < list.size();) {
      if (list[i].type == ActionType::kIdle || list[i].type == ActionType::kReduceGrad) {
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

  std::vector<Reduction> reductions_of(int rank, const std::vector<Action>& list) {
    const std::vector<int> stages = placement_.stages_of(rank);
    // A copy without micro-batches takes part at the end.
    for (const int stage : stages) last_[static_cast<std::size_t>(stage)] = list.size();
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (accumulates(list[i])) last_[static_cast<std::size_t>(list[i].stage)] = i;
    }
    std::vector<Reduction> reductions;
    for (const int stage : stages) {
      const auto index = static_cast<std::size_t>(stage);
      if (reduced_[index]) reductions.push_back({last_[index], stage});
    }
    if (placement_.copies == 1) {
      std::sort(reductions.begin(), reductions.end(),
                [](const Reduction& a, const Reduction& b) { return a.behind < b.behind; });
    } else {
      // Ascending, so that all holders of a stage reduce in one order.
      for (std::size_t k = 1; k < reductions.size(); ++k)
        reductions[k].behind = std::max(reductions[k].behind, reductions[k - 1].behind);
    }
    return reductions;
  }

  const Placement placement_;
  std::vector<std::size_t> last_;  // by stage: of the rank at hand
  std::vector<bool> reduced_;      // by stage: some rank accumulates its gradients
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
