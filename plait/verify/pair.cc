#include <fmt/format.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {

void check_pair(const RuleInput& input, Diagnostics& findings) {
  for_each_action(input.schedule, [&](Place place, const Action& header) {
    if (header.type != ActionType::kOverlapFB) return;
    const std::vector<Action>& list = input.schedule.ranks[static_cast<std::size_t>(place.rank)];
    const auto begin = static_cast<std::size_t>(place.position) + 1;
    if (begin + header.members > list.size()) {
      add(findings, "pair", place,
          fmt::format("a pair of {} members has {} actions behind it", header.members,
                      list.size() - begin));
      return;
    }
    const bool two = header.members == 2;
    const Action first = two ? list[begin] : Action{};
    const Action second = two ? list[begin + 1] : Action{};
    const auto backward = [](const Action& action) {
      return action.type == ActionType::kBackward || action.type == ActionType::kBackwardInput;
    };
    const bool kinds = (first.type == ActionType::kForward && backward(second)) ||
                       (second.type == ActionType::kForward && backward(first));
    if (!two || !kinds) {
      add(findings, "pair", place,
          fmt::format("{} needs two members, a forward and a backward",
                      place_name(input.schedule, place)));
    } else if (first.microbatch == second.microbatch && first.stage == second.stage) {
      add(findings, "pair", place,
          fmt::format("{} pairs a micro-batch with itself, needs two that are independent",
                      place_name(input.schedule, place)));
    }
  });
}

}  // namespace plait::verify_detail
