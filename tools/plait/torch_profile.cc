#include <fmt/core.h>

#include <memory>
#include <string>

#include "plait/base/write_file.h"
#include "plait/job/job_config.h"
#include "tools/plait/commands.h"
#include "tools/plait/job_arguments.h"
#include "tools/plait/torch_steps.h"

namespace plait::tools {
namespace {

struct ProfileOptions {
  int steps = 20;
  std::string out = kRunCosts;
};

Expected<void> run(const JobArguments& arguments, const ProfileOptions& options) {
  PLAIT_TRY(JobConfig job, arguments.read());
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
  PLAIT_TRY(const std::string costs, print_profile(plan, profile, options.steps));
  PLAIT_TRY_VOID(write_file_atomically(options.out, costs));
  fmt::print("{}costs written to {}\n", describe_cores(plan), options.out);
  return {};
}

}  // namespace

void add_profile(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "profile", "fit costs to measured steps of a job, for simulate and compare");
  auto arguments = JobArguments::add_to(*command);
  auto options = std::make_shared<ProfileOptions>();
  command->add_option("--steps", options->steps, "steps to measure, after three of warm-up")
      ->check(CLI::Range(1, 100000));
  command->add_option("--out", options->out, "the cost file (docs/simulate.md)");
  command->callback([arguments, options, &exit_code] {
    const Expected<void> done = run(*arguments, *options);
    if (!done) exit_code = report("profile", done.error());
  });
}

}  // namespace plait::tools
