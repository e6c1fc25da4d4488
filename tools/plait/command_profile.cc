#include <fmt/core.h>

#include <memory>
#include <string>

#include "plait/base/write_file.h"
#include "plait/job/job_config.h"
#include "tools/plait/measured_steps.h"
#include "tools/plait/output.h"
#include "tools/plait/torch_commands.h"

namespace plait::tools {

Expected<void> profile(const ProfileOptions& options) {
  PLAIT_TRY(JobConfig job, options.job->read());
  PLAIT_TRY(const JobPlan plan, plan_to_measure(std::move(job), options.steps));
  if (!has_whole_actions(plan)) {
    return fail(ErrorCode::kNotBuilt,
                "a cost file has no place for segments that exchange rows, nor for reductions: see "
                "compare --measure",
                "parallel.data, parallel.expert");
  }
  PLAIT_TRY(const DataSplit data, open_data(plan.job.data, plan.job.model.vocab_size));
  PLAIT_TRY(const std::vector<StepOutcome> outcomes, run_steps(plan, data));
  CostProfile profile(plan.placement(), plan.message_bytes());
  for (const StepOutcome& outcome : outcomes) profile.add(outcome.timeline);
  PLAIT_TRY(const std::string costs, print_profile(profiled_run(plan), profile, options.steps));
  PLAIT_TRY_VOID(write_file_atomically(options.out, costs));
  print("{}costs written to {}\n", describe_cores(plan), options.out);
  return {};
}

}  // namespace plait::tools
