#include "plait/passes/passes.h"

#include <vector>

namespace plait {

Expected<Schedule> unpair(Schedule schedule, const PassOptions& /*options*/) {
  for (std::vector<Action>& list : schedule.ranks)
    std::erase_if(list, [](const Action& action) { return action.type == ActionType::kOverlapFB; });
  return schedule;
}

}  // namespace plait
