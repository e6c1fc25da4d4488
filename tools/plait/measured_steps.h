/// Steps of a job that are run to be measured.
#pragma once

#include <vector>

#include "plait/base/error.h"
#include "plait/sim/cost_file.h"
#include "plait/sim/profile.h"
#include "plait/train/plan.h"
#include "plait/train/run.h"

namespace plait::tools {

/// Steps that are run first and not looked at: memory is allocated, kernels are chosen.
inline constexpr int kWarmUp = 3;

/// The plan of a job that runs `steps` steps and kWarmUp before them; its ranks stay on cores of
/// their own if there are enough.
Expected<JobPlan> plan_to_measure(JobConfig job, int steps);

/// True of one column of stages that compute: what a cost file can hold.
bool has_whole_actions(const JobPlan& plan);

/// A cost file of a profile of `steps` steps. Errors: an action that its schedule does not run.
Expected<std::string> print_profile(const JobPlan& plan, const CostProfile& profile, int steps);

/// Runs them. Nothing is written. Threads: the calling one and one a rank.
Expected<std::vector<StepOutcome>> run_steps(const JobPlan& plan, const DataSplit& data,
                                             const EmulatedLink& link = {});

/// "oversubscribed: 4 ranks on 2 cores, so times of actions include being preempted", with a line
/// end; or nothing.
std::string describe_cores(const JobPlan& plan);

}  // namespace plait::tools
