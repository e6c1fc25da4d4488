#include <fmt/format.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {

void check_range(const RuleInput& input, Diagnostics& findings) {
  for_each_action(input.schedule, [&](Place place, const Action& action) {
    if (action.type == ActionType::kOverlapFB) return;
    const bool needs_microbatch = is_compute(action.type) || is_communication(action.type);
    if (action.stage < 0 || action.stage >= input.stages()) {
      add(findings, "range", place,
          fmt::format("{} names stage {}, needs one below {}", action_name(action), action.stage,
                      input.stages()));
    } else if (needs_microbatch &&
               (action.microbatch < 0 || action.microbatch >= input.schedule.microbatches)) {
      add(findings, "range", place,
          fmt::format("{} names micro-batch {}, needs one below {}", action_name(action),
                      action.microbatch, input.schedule.microbatches));
    }
  });
}

}  // namespace plait::verify_detail
