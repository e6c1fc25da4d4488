#include "tools/plait/measured_steps.h"

#include <fmt/core.h>

#include <utility>

#include "plait/launch/pin.h"

namespace plait::tools {

Expected<JobPlan> plan_to_measure(JobConfig job, int steps) {
  job.run.steps = kWarmUp + steps;
  PLAIT_TRY(JobPlan plan, make_plan(std::move(job)));
  plan.job.run.pin = plan.ranks() * plan.job.run.threads <= allowed_cores();
  return plan;
}

Expected<std::vector<StepOutcome>> run_steps(const JobPlan& plan, const DataSplit& data,
                                             const EmulatedLink& link) {
  std::vector<StepOutcome> outcomes;
  RunHooks hooks;
  hooks.validates = false;
  hooks.link = link;
  hooks.on_step = [&](const StepOutcome& outcome) -> Expected<void> {
    if (outcome.line.step > kWarmUp) outcomes.push_back(outcome);
    return {};
  };
  JobModel model = job_model(plan, data);
  PLAIT_TRY_VOID(run_in_process(job_setup(plan, model), run_length(plan), hooks));
  return outcomes;
}

std::string describe_cores(const JobPlan& plan) {
  if (plan.job.run.pin) return {};
  return fmt::format(
      "oversubscribed: {} ranks on {} cores, so times of actions include being preempted\n",
      plan.ranks(), allowed_cores());
}

}  // namespace plait::tools
