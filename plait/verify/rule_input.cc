#include "plait/verify/rule_input.h"

#include <algorithm>

namespace plait::verify_detail {

void RuleInput::find_strays() {
  for_each_action(schedule, [&](Location location, const Action& action) {
    if (action.type == ActionType::kOverlapFB || holders.in_place(location.rank, action)) return;
    strays.push_back(location);
    stray_keys.emplace_back(action.type, action.stage, action.microbatch);
  });
  std::sort(stray_keys.begin(), stray_keys.end());
}

bool RuleInput::strayed(ActionType type, int stage, int microbatch) const {
  return std::binary_search(stray_keys.begin(), stray_keys.end(),
                            ActionKey{type, stage, microbatch});
}

}  // namespace plait::verify_detail
