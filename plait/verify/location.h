/// Location: where an action stands in a schedule.
#pragma once

#include <cstddef>
#include <cstdint>

#include "plait/ir/schedule.h"

namespace plait::verify_detail {

struct Location {
  std::int32_t rank = -1;
  std::int32_t position = -1;  ///< index in the rank's list, pair headers counted
};

/// Calls visit(location, action) for every action, members of pairs too, idle slots not.
template <typename Visit>
void for_each_action(const Schedule& schedule, Visit visit) {
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const std::vector<Action>& list = schedule.ranks[rank];
    for (std::size_t position = 0; position < list.size(); ++position) {
      if (list[position].type == ActionType::kIdle) continue;
      visit(Location{static_cast<std::int32_t>(rank), static_cast<std::int32_t>(position)},
            list[position]);
    }
  }
}

}  // namespace plait::verify_detail
