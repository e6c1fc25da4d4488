#include "plait/passes/missing_input.h"

#include <fmt/core.h>

#include <string>

#include "plait/ir/action_text.h"
#include "plait/ir/direction.h"

namespace plait::passes_detail {

tl::unexpected<Error> no_rank_can_go_on(const Schedule& schedule, const ValueNumbers& values,
                                        const std::vector<std::size_t>& next,
                                        const Arrived& there) {
  std::string waits;
  for (std::size_t rank = 0; rank < next.size(); ++rank) {
    const std::vector<Action>& list = schedule.ranks[rank];
    if (next[rank] == list.size()) continue;
    const Action* waiting = first_missing(list, next[rank], values, there).reader;
    if (waiting == nullptr) continue;
    const Direction direction = direction_of(waiting->type);
    const int producer = stage_before(direction, waiting->stage);
    waits += fmt::format(
        "\n  rank {} position {} ({}) waits for the {} of stage {} micro-batch {} on rank {}", rank,
        next[rank], print_action_at(list, next[rank]),
        direction == Direction::kForward ? "forward" : "backward", producer, waiting->microbatch,
        values.rank_of(producer, waiting->microbatch));
  }
  return fail(ErrorCode::kCheckFailed, fmt::format("no rank can go on:{}", waits), schedule.name);
}

}  // namespace plait::passes_detail
