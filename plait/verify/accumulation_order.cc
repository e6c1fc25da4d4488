#include <fmt/core.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

bool accumulates(const Action& action) {
  return action.type == ActionType::kBackward || action.type == ActionType::kBackwardWeight;
}

void check_after_reduction(const RankView& view, Diagnostics& findings) {
  const bool all_in_place = view.input().strays.empty();
  std::vector<std::int32_t> reduced(view.stages().size(), -1);
  const std::vector<Action>& list = view.list();
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Action& action = list[i];
    if (!accumulates(action) && action.type != ActionType::kReduceGrad) continue;
    if (!all_in_place && !view.input().holders.in_place(view.rank(), action)) continue;
    std::int32_t& first = reduced[static_cast<std::size_t>(view.local(action.stage))];
    if (action.type == ActionType::kReduceGrad) {
      if (first < 0) first = static_cast<std::int32_t>(i);
    } else if (first >= 0) {
      add(findings, "accumulation-order", view.location(i),
          fmt::format("{} adds to the gradient of stage {} after its reduction",
                      action_name(action), action.stage),
          {note(view.location(first), name_at(view.input().schedule, view.location(first)))});
    }
  }
}

void check_ascending(const RankView& view, Diagnostics& findings) {
  // Each copy of a stage has a gradient of its own.
  const Holders& holders = view.input().holders;
  const auto copies = static_cast<std::size_t>(holders.copies());
  std::vector<std::int32_t> last(view.stages().size() * copies, -1);
  const std::vector<Action>& list = view.list();
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Action& action = list[i];
    if (!accumulates(action) || !holders.in_place(view.rank(), action)) continue;
    std::int32_t& before = last[static_cast<std::size_t>(view.local(action.stage)) * copies +
                                static_cast<std::size_t>(holders.copy_of(action.microbatch))];
    if (before >= 0 && list[static_cast<std::size_t>(before)].microbatch > action.microbatch) {
      const Action& higher = list[static_cast<std::size_t>(before)];
      add(findings, "accumulation-order", view.location(i),
          fmt::format("{} adds to the gradient of stage {} after micro-batch {}, needs ascending "
                      "order",
                      action_name(action), action.stage, higher.microbatch),
          {note(view.location(before), action_name(higher))});
    }
    before = static_cast<std::int32_t>(i);
  }
}

}  // namespace

void check_accumulation_order(const RankView& view, Diagnostics& findings) {
  if (view.reduces()) check_after_reduction(view, findings);
  if (view.input().options.ascending) check_ascending(view, findings);
}

}  // namespace plait::verify_detail
