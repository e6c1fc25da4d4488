/// What one should know of a schedule though it breaks no rule.
#pragma once

#include <string>
#include <vector>

#include "plait/ir/schedule.h"

namespace plait {

/// Of a proven schedule: stages that stay unsharded at the end of the step, as torch's lowering
/// leaves the one that computes last on each rank. Cost: O(actions).
std::vector<std::string> notes_of(const Schedule& schedule);

}  // namespace plait
