#include <fmt/format.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {

void check_placement(const RuleInput& input, Diagnostics& findings) {
  for_each_action(input.schedule, [&](Place place, const Action& action) {
    if (action.stage < 0 || action.stage >= input.stages()) return;
    const int holder = input.schedule.placement.rank_of(action.stage);
    if (holder == place.rank) return;
    add(findings, "placement", place,
        fmt::format("{} stands on rank {}, stage {} is held by rank {}", action_name(action),
                    place.rank, action.stage, holder),
        {{holder, -1, fmt::format("holds stage {}", action.stage)}});
  });
}

}  // namespace plait::verify_detail
