#include <fmt/core.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

void check_repeats(const RankView& view, Diagnostics& findings) {
  const std::vector<Action>& list = view.list();
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Action& action = list[i];
    // The rule `send-wait` reports a second wait.
    if (!has_microbatch(action.type) || is_wait(action.type) ||
        !view.input().holders.in_place(view.rank(), action))
      continue;
    const std::int32_t first = view.position(action.type, action.stage, action.microbatch);
    if (static_cast<std::size_t>(first) == i) continue;
    add(findings, "duplicate", view.location(i),
        fmt::format("{} stands here again", action_name(action)),
        {note(view.location(first), "first here")});
  }
}

/// A rank reduces the gradient of a stage once.
void check_reductions(const RankView& view, Diagnostics& findings) {
  std::vector<std::int32_t> first(view.stages().size(), -1);
  const std::vector<Action>& list = view.list();
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Action& action = list[i];
    if (action.type != ActionType::kReduceGrad ||
        !view.input().holders.in_place(view.rank(), action))
      continue;
    std::int32_t& seen = first[static_cast<std::size_t>(view.local(action.stage))];
    if (seen < 0) {
      seen = static_cast<std::int32_t>(i);
      continue;
    }
    add(findings, "duplicate", view.location(i),
        fmt::format("{} stands here again", action_name(action)),
        {note(view.location(seen), "first here")});
  }
}

/// A B is an I and a W: a micro-batch with a B must have neither.
void check_halves(const RankView& view, Diagnostics& findings) {
  for (const int stage : view.stages()) {
    for (int mb = 0; mb < view.input().holders.microbatches(); ++mb) {
      const std::int32_t whole = view.position(ActionType::kBackward, stage, mb);
      if (whole < 0) continue;
      for (const ActionType half : {ActionType::kBackwardInput, ActionType::kBackwardWeight}) {
        const std::int32_t other = view.position(half, stage, mb);
        if (other < 0) continue;
        const std::string name = action_name(ActionType::kBackward, stage, mb);
        add(findings, "duplicate", view.location(other),
            fmt::format("{} does again what {} does", action_name(half, stage, mb), name),
            {note(view.location(whole), name)});
      }
    }
  }
}

}  // namespace

void check_duplicate(const RankView& view, Diagnostics& findings) {
  if (view.repeats()) check_repeats(view, findings);
  if (view.reduces()) check_reductions(view, findings);
  check_halves(view, findings);
}

}  // namespace plait::verify_detail
