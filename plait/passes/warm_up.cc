#include <algorithm>
#include <utility>
#include <vector>

#include "plait/passes/check_input.h"
#include "plait/passes/passes.h"
#include "plait/passes/rewrite.h"

namespace plait {
namespace {

/// Shifts the list's forwards ahead by `more`: each takes the place of the one `more` before it,
/// and the first ones stand before the first backward.
void shift_forwards(const std::vector<Action>& list, std::size_t more,
                    std::vector<Action>& output) {
  const auto is_forward = [](const Action& action) { return action.type == ActionType::kForward; };
  std::vector<Action> forwards;
  std::copy_if(list.begin(), list.end(), std::back_inserter(forwards), is_forward);
  std::size_t next = 0;
  bool warm = false;
  for (const Action& action : list) {
    if (!is_forward(action)) {
      for (std::size_t i = 0; !warm && i < more && next < forwards.size(); ++i)
        output.push_back(forwards[next++]);
      warm = true;
      output.push_back(action);
    } else if (next < forwards.size()) {
      output.push_back(forwards[next++]);
    }
  }
}

Expected<Schedule> warm_up_by(Schedule schedule, int everywhere, int per_hop) {
  PLAIT_TRY_VOID(passes_detail::check_input(schedule, passes_detail::Communication::kRefused));
  for (const std::vector<Action>& list : schedule.ranks) {
    if (std::any_of(list.begin(), list.end(),
                    [](const Action& action) { return action.type == ActionType::kOverlapFB; }))
      return fail(ErrorCode::kInvalidInput,
                  "the schedule holds pairs, needed one without (unpair dissolves them)",
                  schedule.name);
  }
  PLAIT_TRY(schedule, drop_idle(std::move(schedule), {}));
  const std::size_t ranks = schedule.ranks.size();
  return passes_detail::rewrite_lists(
      std::move(schedule),
      [&](std::size_t rank, const std::vector<Action>& list, std::vector<Action>& output) {
        const std::size_t hops = ranks - 1 - rank;
        shift_forwards(
            list, static_cast<std::size_t>(everywhere) + static_cast<std::size_t>(per_hop) * hops,
            output);
      });
}

}  // namespace

Expected<Schedule> warm_up(Schedule schedule, const PassOptions& options) {
  return warm_up_by(std::move(schedule), options.number, 0);
}

Expected<Schedule> warm_up_per_hop(Schedule schedule, const PassOptions& options) {
  return warm_up_by(std::move(schedule), 0, options.number);
}

}  // namespace plait
