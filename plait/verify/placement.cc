#include <fmt/format.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {

void check_placement(const RuleInput& input, Diagnostics& findings) {
  for_each_action(input.schedule, [&](Place place, const Action& action) {
    if (action.stage < 0 || action.stage >= input.stages()) return;
    if (action.microbatch >= input.schedule.microbatches) return;
    const Placement& placement = input.schedule.placement;
    // What has no micro-batch is of whichever copy the rank holds.
    if (action.microbatch < 0 && placement.copies > 1) {
      bool held = false;
      for (int copy = 0; copy < placement.copies; ++copy)
        held = held || placement.rank_of(action.stage, copy) == place.rank;
      if (held) return;
    }
    const int holder = action.microbatch < 0
                           ? placement.rank_of(action.stage)
                           : input.schedule.rank_of(action.stage, action.microbatch);
    if (holder == place.rank) return;
    add(findings, "placement", place,
        fmt::format("{} stands on rank {}, stage {} is held by rank {}", action_name(action),
                    place.rank, action.stage, holder),
        {{holder, -1, fmt::format("holds stage {}", action.stage)}});
  });
}

}  // namespace plait::verify_detail
