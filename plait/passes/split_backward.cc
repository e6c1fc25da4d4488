#include "plait/passes/passes.h"

#include <utility>

#include "plait/passes/check_input.h"
#include "plait/passes/rewrite.h"

namespace plait {

using passes_detail::append_block;
using passes_detail::check_input;
using passes_detail::Communication;
using passes_detail::rewrite_lists;

Expected<Schedule> split_backward(Schedule schedule, const PassOptions& /*options*/) {
  PLAIT_TRY_VOID(check_input(schedule, Communication::kTaken));
  return rewrite_lists(
      std::move(schedule),
      [](std::size_t /*rank*/, const std::vector<Action>& list, std::vector<Action>& output) {
        for (std::size_t i = 0; i < list.size();) {
          const std::size_t begin = output.size();
          i = append_block(list, i, output);
          const std::size_t end = output.size();
          for (std::size_t member = begin; member < end; ++member) {
            if (output[member].type != ActionType::kBackward) continue;
            output[member].type = ActionType::kBackwardInput;
            output.push_back(
                {output[member].stage, output[member].microbatch, ActionType::kBackwardWeight, 0});
          }
        }
      });
}

}  // namespace plait
