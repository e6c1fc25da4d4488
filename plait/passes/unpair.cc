#include <vector>

#include "plait/passes/check_input.h"
#include "plait/passes/passes.h"

namespace plait {

Expected<Schedule> unpair(Schedule schedule, const PassOptions& /*options*/) {
  PLAIT_TRY_VOID(passes_detail::check_input(schedule, passes_detail::Communication::kTaken));
  for (std::vector<Action>& list : schedule.ranks)
    std::erase_if(list, [](const Action& action) { return action.type == ActionType::kOverlapFB; });
  return schedule;
}

}  // namespace plait
