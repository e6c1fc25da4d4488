#include <fmt/core.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {

void check_range(const RuleInput& input, Diagnostics& findings) {
  const Holders& holders = input.holders;
  for (const Location location : input.strays) {
    const Action& action = input.action_at(location);
    if (holders.in_range(action)) continue;
    if (action.stage < 0 || action.stage >= holders.stages()) {
      add(findings, "range", location,
          fmt::format("{} names stage {}, needs one below {}", action_name(action), action.stage,
                      holders.stages()));
    } else {
      add(findings, "range", location,
          fmt::format("{} names micro-batch {}, needs one below {}", action_name(action),
                      action.microbatch, holders.microbatches()));
    }
  }
}

}  // namespace plait::verify_detail
