/// Steps of a job that are run to be measured.
#pragma once

#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/train/job_run.h"

namespace plait::tools {

/// The plan of a job that runs `steps` steps and kWarmUp before them; its ranks stay on cores of
/// their own if there are enough.
Expected<JobPlan> plan_to_measure(JobConfig job, int steps);

/// Runs them. Nothing is written. Threads: the calling one and one a rank.
Expected<std::vector<StepOutcome>> run_steps(const JobPlan& plan, const DataSplit& data,
                                             const EmulatedLink& link = {});

/// "oversubscribed: 4 ranks on 2 cores, so times of actions include being preempted", with a line
/// end; or nothing.
std::string describe_cores(const JobPlan& plan);

}  // namespace plait::tools
