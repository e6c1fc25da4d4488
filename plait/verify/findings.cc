#include "plait/verify/findings.h"

#include <utility>

#include "plait/ir/action_text.h"

namespace plait::verify_detail {

std::string action_name(const Action& action) { return print_action(action); }

std::string action_name(ActionType type, int stage, int microbatch) {
  return print_action({stage, microbatch, type, 0});
}

std::string name_at(const Schedule& schedule, Location location) {
  return print_action_at(schedule.ranks[static_cast<std::size_t>(location.rank)],
                         static_cast<std::size_t>(location.position));
}

Diagnostic& add(Diagnostics& findings, std::string_view rule, Location location,
                std::string message, std::vector<DiagnosticNote> notes) {
  return findings.emplace_back(Diagnostic{std::string(rule), location.rank, location.position,
                                          std::move(message), std::move(notes)});
}

DiagnosticNote note(Location location, std::string message) {
  return {location.rank, location.position, std::move(message)};
}

}  // namespace plait::verify_detail
