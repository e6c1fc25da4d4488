/// How rules word what they find.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "plait/ir/schedule.h"
#include "plait/verify/location.h"
#include "plait/verify/verify.h"

namespace plait::verify_detail {

/// "2F0"; of a pair's header "OVERLAP_F_B".
std::string action_name(ActionType type, int stage, int microbatch);
std::string action_name(const Action& action);
/// What stands there, a pair with its members: "(0F7;7B3)OVERLAP_F_B".
std::string name_at(const Schedule& schedule, Location location);

/// Appends a finding and returns it.
Diagnostic& add(Diagnostics& findings, std::string_view rule, Location location,
                std::string message, std::vector<DiagnosticNote> notes = {});
DiagnosticNote note(Location location, std::string message);

}  // namespace plait::verify_detail
