#include <fmt/core.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {

void check_placement(const RuleInput& input, Diagnostics& findings) {
  for (const Location location : input.strays) {
    const Action& action = input.action_at(location);
    if (!input.holders.in_range(action)) continue;
    const int holder = has_microbatch(action.type)
                           ? input.holders.rank_of(action.stage, action.microbatch)
                           : input.holders.rank_of_copy(action.stage, 0);
    add(findings, "placement", location,
        fmt::format("{} stands on rank {}, stage {} is held by rank {}", action_name(action),
                    location.rank, action.stage, holder),
        {{holder, -1, fmt::format("holds stage {}", action.stage)}});
  }
}

}  // namespace plait::verify_detail
