#include <fmt/format.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {

void check_completeness(const RuleInput& input, Diagnostics& findings) {
  const bool forward_only = input.schedule.forward_only;
  for (int stage = 0; stage < input.stages(); ++stage) {
    for (int mb = 0; mb < input.schedule.microbatches; ++mb) {
      const auto has = [&](ActionType type) { return input.index.first(type, stage, mb).found(); };
      const auto missing = [&](std::string what) {
        add(findings, "completeness", {input.schedule.rank_of(stage, mb), -1},
            fmt::format("stage {} micro-batch {}: {}", stage, mb, what));
      };
      const bool whole = has(ActionType::kBackward);
      const bool inputs = has(ActionType::kBackwardInput);
      const bool weights = has(ActionType::kBackwardWeight);
      if (!has(ActionType::kForward))
        missing(fmt::format("{} is missing", action_name(ActionType::kForward, stage, mb)));
      if (forward_only) {
        if (whole || inputs || weights) missing("has a backward, the schedule is forward-only");
      } else if (!whole && !inputs && !weights) {
        missing(fmt::format("its backward is missing: {}, or {} and {}",
                            action_name(ActionType::kBackward, stage, mb),
                            action_name(ActionType::kBackwardInput, stage, mb),
                            action_name(ActionType::kBackwardWeight, stage, mb)));
      } else if (!whole && inputs != weights) {
        missing(fmt::format("{} is missing", action_name(inputs ? ActionType::kBackwardWeight
                                                                : ActionType::kBackwardInput,
                                                         stage, mb)));
      }
    }
  }
}

}  // namespace plait::verify_detail
