/// The cost file of a run.
#pragma once

#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/sim/profile.h"
#include "plait/train/train_plan.h"

namespace plait {

/// Steps that are run first and not looked at: memory is allocated, kernels are chosen.
inline constexpr int kWarmUp = 3;

/// True of one column of stages that compute: what a cost file can hold.
bool has_whole_actions(const TrainPlan& plan);

/// What a cost file says beside the profile.
struct ProfiledRun {
  std::string title;                   ///< what ran, under which schedule
  std::vector<Bytes> parameter_bytes;  ///< by stage; gradients have as many
};

/// A cost file of a profile of `steps` steps. Errors: an action that its schedule does not run.
Expected<std::string> print_profile(const ProfiledRun& run, const CostProfile& profile, int steps);

}  // namespace plait
