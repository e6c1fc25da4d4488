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

void RuleInput::find_strays() {
  for_each_action(schedule, [&](Place place, const Action& action) {
    if (action.type == ActionType::kOverlapFB || holders.in_place(place.rank, action)) return;
    strays.push_back(place);
    stray_keys.emplace_back(action.type, action.stage, action.microbatch);
  });
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
