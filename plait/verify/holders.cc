#include "plait/verify/holders.h"

#include <algorithm>
#include <utility>

#include "plait/ir/action_text.h"

namespace plait::verify_detail {

Holders::Holders(const Schedule& schedule)
    : stages_(schedule.placement.stages()),
      microbatches_(schedule.microbatches),
      rank_of_(schedule.placement.rank_of_stage) {
  const std::int64_t copies = schedule.placement.copies;
  // The smallest m with floor(copies * m / M) = copy.
  for (std::int64_t copy = 0; copy < copies; ++copy)
    copy_begin_.push_back(static_cast<int>((copy * microbatches_ + copies - 1) / copies));
}

bool Holders::holds(int rank, int stage) const {
  for (int copy = 0; copy < copies(); ++copy) {
    if (of_copy(stage, copy) == rank) return true;
  }
  return false;
}

bool Holders::in_range(const Action& action) const {
  if (action.stage < 0 || action.stage >= stages_) return false;
  return !has_microbatch(action.type) ||
         (action.microbatch >= 0 && action.microbatch < microbatches_);
}

bool Holders::in_place(int rank, const Action& action) const {
  if (!in_range(action)) return false;
  return has_microbatch(action.type) ? rank_of(action.stage, action.microbatch) == rank
                                     : holds(rank, action.stage);
}

RuleInput::RuleInput(const Schedule& of, const VerifyOptions& asked, const Holders& held)
    : schedule(of), options(asked), holders(held) {
  for (std::size_t rank = 0; rank < of.ranks.size(); ++rank) {
    const std::vector<Action>& list = of.ranks[rank];
    for (std::size_t i = 0; i < list.size(); ++i) {
      const ActionType type = list[i].type;
      if (type == ActionType::kIdle || type == ActionType::kOverlapFB ||
          held.in_place(static_cast<int>(rank), list[i]))
        continue;
      strays.push_back({static_cast<std::int32_t>(rank), static_cast<std::int32_t>(i)});
      stray_keys.emplace_back(type, list[i].stage, list[i].microbatch);
    }
  }
  std::sort(stray_keys.begin(), stray_keys.end());
}

bool RuleInput::strayed(ActionType type, int stage, int microbatch) const {
  return std::binary_search(stray_keys.begin(), stray_keys.end(),
                            ActionKey{type, stage, microbatch});
}

std::string action_name(const Action& action) { return print_action(action); }

std::string action_name(ActionType type, int stage, int microbatch) {
  return print_action({stage, microbatch, type, 0});
}

std::string place_name(const Schedule& schedule, Place place) {
  return print_action_at(schedule.ranks[static_cast<std::size_t>(place.rank)],
                         static_cast<std::size_t>(place.position));
}

Diagnostic& add(Diagnostics& findings, std::string_view rule, Place place, std::string message,
                std::vector<DiagnosticNote> notes) {
  return findings.emplace_back(Diagnostic{std::string(rule), place.rank, place.position,
                                          std::move(message), std::move(notes)});
}

DiagnosticNote note(Place place, std::string message) {
  return {place.rank, place.position, std::move(message)};
}

}  // namespace plait::verify_detail
