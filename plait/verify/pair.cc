#include <fmt/core.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

void check_members(const RankView& view, std::size_t header, Diagnostics& findings) {
  const std::vector<Action>& list = view.list();
  const std::size_t members = list[header].members;
  const auto name = [&] { return name_at(view.input().schedule, view.location(header)); };
  if (header + 1 + members > list.size()) {
    add(findings, "pair", view.location(header),
        fmt::format("a pair of {} members has {} actions behind it", members,
                    list.size() - header - 1));
    return;
  }
  const Action first = members == 2 ? list[header + 1] : Action{};
  const Action second = members == 2 ? list[header + 2] : Action{};
  const bool kinds = (first.type == ActionType::kForward && passes_gradient(second.type)) ||
                     (second.type == ActionType::kForward && passes_gradient(first.type));
  if (!kinds) {
    add(findings, "pair", view.location(header),
        fmt::format("{} needs two members, a forward and a backward", name()));
  } else if (first.microbatch == second.microbatch && first.stage == second.stage) {
    add(findings, "pair", view.location(header),
        fmt::format("{} pairs a micro-batch with itself, needs two that are independent", name()));
  }
}

}  // namespace

void check_pair(const RankView& view, Diagnostics& findings) {
  const std::vector<Action>& list = view.list();
  for (std::size_t i = 0; i < list.size() && view.holds_pairs(); ++i) {
    if (list[i].type == ActionType::kOverlapFB) {
      check_members(view, i, findings);
    } else if (list[i].members != 0) {
      add(findings, "pair", view.location(i),
          fmt::format("{} is no pair but names {} members", action_name(list[i]), list[i].members));
    }
  }
}

}  // namespace plait::verify_detail
