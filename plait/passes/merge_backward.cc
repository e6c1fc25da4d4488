#include "plait/passes/passes.h"

#include <utility>

#include "plait/passes/check_input.h"
#include "plait/passes/rewrite.h"

namespace plait {

using passes_detail::append_block;
using passes_detail::check_input;
using passes_detail::Communication;
using passes_detail::rewrite_lists;

Expected<Schedule> merge_backward(Schedule schedule, const PassOptions& /*options*/) {
  PLAIT_TRY_VOID(check_input(schedule, Communication::kTaken));
  return rewrite_lists(
      std::move(schedule),
      [](std::size_t /*rank*/, const std::vector<Action>& list, std::vector<Action>& output) {
        bool joins = false;  // the last of the output is an I that is no pair's member
        for (std::size_t i = 0; i < list.size();) {
          const Action& action = list[i];
          if (action.type == ActionType::kIdle) {
            ++i;
          } else if (joins && action.type == ActionType::kBackwardWeight &&
                     action.stage == output.back().stage &&
                     action.microbatch == output.back().microbatch) {
            output.back().type = ActionType::kBackward;
            joins = false;
            ++i;
          } else {
            joins = action.type == ActionType::kBackwardInput;
            i = append_block(list, i, output);
          }
        }
      });
}

}  // namespace plait
