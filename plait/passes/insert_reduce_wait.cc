#include <utility>

#include "plait/passes/check_input.h"
#include "plait/passes/passes.h"
#include "plait/passes/rewrite.h"

namespace plait {
namespace {

/// Writes a list with the waits of its reductions, of which one at most is pending.
void wait_for_reductions(const std::vector<Action>& list, bool deferred,
                         std::vector<Action>& output) {
  int pending = -1;  // stage
  const auto wait = [&] {
    if (pending >= 0) output.push_back({pending, -1, ActionType::kWaitReduceGrad, 0});
    pending = -1;
  };
  for (std::size_t i = 0; i < list.size();) {
    const ActionType type = list[i].type;
    if (type == ActionType::kIdle || type == ActionType::kWaitReduceGrad) {
      ++i;
      continue;
    }
    const int stage = list[i].stage;
    if (type == ActionType::kReduceGrad) wait();
    i = passes_detail::append_block(list, i, output);
    if (type != ActionType::kReduceGrad) continue;
    pending = stage;
    if (!deferred) wait();
  }
  wait();
}

}  // namespace

Expected<Schedule> insert_reduce_wait(Schedule schedule, const PassOptions& options) {
  PLAIT_TRY_VOID(passes_detail::check_input(schedule, passes_detail::Communication::kTaken));
  // The reduction of a stage that two ranks of a pipeline hold ends with the step (docs/verify.md).
  if (schedule.placement.copies > 1) return drop_idle(std::move(schedule), options);
  return passes_detail::rewrite_lists(
      std::move(schedule),
      [&](std::size_t /*rank*/, const std::vector<Action>& list, std::vector<Action>& output) {
        wait_for_reductions(list, options.number != 0, output);
      });
}

}  // namespace plait
