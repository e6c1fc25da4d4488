#include <fmt/format.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {

void check_duplicate(const RuleInput& input, Diagnostics& findings) {
  for_each_action(input.schedule, [&](Place place, const Action& action) {
    if (action.microbatch < 0 || !input.index.in_range(action)) return;
    const Place first = input.index.first(action.type, action.stage, action.microbatch);
    if (first.rank == place.rank && first.position == place.position) {
      // B does what I and W do: both is one too many.
      if (action.type != ActionType::kBackward) return;
      for (const ActionType half : {ActionType::kBackwardInput, ActionType::kBackwardWeight}) {
        const Place other = input.index.first(half, action.stage, action.microbatch);
        if (!other.found()) continue;
        add(findings, "duplicate", other,
            fmt::format("{} does again what {} does",
                        action_name(half, action.stage, action.microbatch), action_name(action)),
            {note(place, action_name(action))});
      }
      return;
    }
    add(findings, "duplicate", place, fmt::format("{} stands here again", action_name(action)),
        {note(first, "first here")});
  });
}

}  // namespace plait::verify_detail
