#include "plait/passes/passes.h"

#include <utility>

#include "plait/passes/check_input.h"
#include "plait/passes/rewrite.h"

namespace plait {

using passes_detail::append_block;
using passes_detail::check_input;
using passes_detail::Communication;
using passes_detail::rewrite_lists;

Expected<Schedule> insert_reduce_grad(Schedule schedule, const PassOptions& /*options*/) {
  PLAIT_TRY_VOID(check_input(schedule, Communication::kTaken));
  const auto accumulates = [](const Action& action) {
    return action.type == ActionType::kBackward || action.type == ActionType::kBackwardWeight;
  };
  std::vector<std::size_t> last(static_cast<std::size_t>(schedule.placement.stages()));
  return rewrite_lists(
      std::move(schedule),
      [&](std::size_t /*rank*/, const std::vector<Action>& list, std::vector<Action>& output) {
        // Positions of what stands on this rank: older entries of other ranks are never asked for.
        for (std::size_t i = 0; i < list.size(); ++i) {
          if (accumulates(list[i])) last[static_cast<std::size_t>(list[i].stage)] = i;
        }
        for (std::size_t i = 0; i < list.size();) {
          if (list[i].type == ActionType::kIdle || list[i].type == ActionType::kReduceGrad) {
            ++i;
            continue;
          }
          const std::size_t end = append_block(list, i, output);
          for (; i < end; ++i) {
            if (accumulates(list[i]) && last[static_cast<std::size_t>(list[i].stage)] == i)
              output.push_back({list[i].stage, -1, ActionType::kReduceGrad, 0});
          }
        }
      });
}

}  // namespace plait
