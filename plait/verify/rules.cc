#include "plait/verify/rules.h"

#include <fmt/format.h>

#include <utility>

#include "plait/ir/action_text.h"

namespace plait::verify_detail {
namespace {

constexpr std::size_t kTypes = static_cast<std::size_t>(ActionType::kReduceGrad) + 1;

}  // namespace

ActionIndex::ActionIndex(const Schedule& schedule)
    : stages_(schedule.placement.stages()), microbatches_(schedule.microbatches) {
  places_.resize(kTypes * static_cast<std::size_t>(stages_) *
                 static_cast<std::size_t>(microbatches_));
  for_each_action(schedule, [&](Place place, const Action& action) {
    if (!in_range(action) || action.microbatch < 0) return;
    Place& first_place = places_[cell(action.type, action.stage, action.microbatch)];
    if (!first_place.found()) first_place = place;
  });
}

bool ActionIndex::in_range(const Action& action) const {
  return action.stage >= 0 && action.stage < stages_ && action.microbatch < microbatches_;
}

std::size_t ActionIndex::cell(ActionType type, int stage, int microbatch) const {
  return (static_cast<std::size_t>(type) * static_cast<std::size_t>(stages_) +
          static_cast<std::size_t>(stage)) *
             static_cast<std::size_t>(microbatches_) +
         static_cast<std::size_t>(microbatch);
}

Place ActionIndex::first(ActionType type, int stage, int microbatch) const {
  return places_[cell(type, stage, microbatch)];
}

std::string action_name(const Action& action) { return print_action(action); }

std::string action_name(ActionType type, int stage, int microbatch) {
  return print_action({stage, microbatch, type, 0});
}

std::string place_name(const Schedule& schedule, Place place) {
  return print_action_at(schedule.ranks[static_cast<std::size_t>(place.rank)],
                         static_cast<std::size_t>(place.position));
}

void add(Diagnostics& findings, std::string_view rule, Place place, std::string message,
         std::vector<DiagnosticNote> notes) {
  findings.push_back(
      {std::string(rule), place.rank, place.position, std::move(message), std::move(notes)});
}

DiagnosticNote note(Place place, std::string message) {
  return {place.rank, place.position, std::move(message)};
}

}  // namespace plait::verify_detail
