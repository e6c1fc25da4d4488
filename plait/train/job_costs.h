/// The cost file of a job that has run.
#pragma once

#include <string>

#include "plait/base/error.h"
#include "plait/sim/profile.h"
#include "plait/train/plan.h"

namespace plait {

/// Steps that are run first and not looked at: memory is allocated, kernels are chosen.
inline constexpr int kWarmUp = 3;

/// True of one column of stages that compute: what a cost file can hold.
bool has_whole_actions(const JobPlan& plan);

/// A cost file of a profile of `steps` steps. Errors: an action that its schedule does not run.
Expected<std::string> print_profile(const JobPlan& plan, const CostProfile& profile, int steps);

}  // namespace plait
