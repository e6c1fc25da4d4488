#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "plait/base/write_file.h"
#include "plait/config/job_config.h"
#include "plait/sim/profile.h"
#include "plait/sim/simulate.h"
#include "plait/train/plan.h"
#include "plait/train/run.h"
#include "tools/plait/commands.h"
#include "tools/plait/job_arguments.h"

namespace plait::tools {
namespace {

/// Steps that are run and not looked at: memory is allocated, kernels are chosen.
constexpr int kWarmUp = 3;

struct ProfileOptions {
  int steps = 20;
  std::string out = "costs.toml";
  std::vector<std::string> measure;
};

/// Runs the job's first steps and gives their timelines. Nothing is written.
Expected<std::vector<Timeline>> run_steps(const JobPlan& plan, const DataSplit& data) {
  std::vector<Timeline> timelines;
  RunHooks hooks;
  hooks.validates = false;
  hooks.on_step = [&](const StepOutcome& outcome) -> Expected<void> {
    if (outcome.line.step > kWarmUp) timelines.push_back(outcome.timeline);
    return {};
  };
  PLAIT_TRY_VOID(run_in_process(plan, data, /*reference=*/false, hooks));
  return timelines;
}

Nanoseconds median_span(const std::vector<Timeline>& timelines) {
  std::vector<Nanoseconds> spans;
  for (const Timeline& timeline : timelines) spans.push_back(measure(timeline).span_ns);
  return median(std::move(spans));
}

Expected<JobPlan> plan_of(JobConfig job, const ProfileOptions& options) {
  job.run.steps = options.steps;
  PLAIT_TRY(JobPlan plan, make_plan(std::move(job)));
  if (plan.has_exchanges() || plan.grid().columns() > 1) {
    return fail(ErrorCode::kNotBuilt,
                "this version profiles one column of ranks: segments that exchange rows, and "
                "reductions, have no cost in it yet",
                "parallel.data, parallel.expert");
  }
  return plan;
}

/// The same layers on the stages of another schedule, whose stages each hold `count` of the
/// profile's.
std::vector<int> merge_layers(const JobPlan& plan, int count) {
  std::vector<int> layers;
  for (int stage = 0; stage < plan.stages(); ++stage) {
    if (stage % count == 0) layers.push_back(0);
    layers.back() += plan.parts[static_cast<std::size_t>(stage)].layers();
  }
  return layers;
}

void print_row(const std::string& schedule, Nanoseconds predicted, Nanoseconds measured) {
  fmt::print("{:<24} {:>12.2f} {:>12.2f} {:>+7.1f} %\n", schedule,
             static_cast<double>(predicted) / 1e6, static_cast<double>(measured) / 1e6,
             100 * (static_cast<double>(predicted) / static_cast<double>(measured) - 1));
  std::fflush(stdout);
}

Expected<Nanoseconds> forecast(const JobPlan& plan, const CostSettings& settings) {
  PLAIT_TRY(const CostModel costs, make_cost_model(settings, plan.stages()));
  PLAIT_TRY(const Prediction prediction, simulate(plan.training, costs));
  return prediction.makespan_ns;
}

/// Another schedule of the same job, forecast from the profile and then run.
Expected<void> measure_other(const std::string& schedule, const JobPlan& profiled,
                             const CostSettings& settings, const DataSplit& data,
                             const ProfileOptions& options) {
  JobConfig job = profiled.job;
  job.parallel.schedule = schedule;
  job.parallel.chunks = 0;
  job.parallel.layers_per_stage.clear();
  PLAIT_TRY(const JobPlan alone, plan_of(job, options));
  if (profiled.stages() % alone.stages() != 0) {
    fmt::print("{:<24} left out: its {} stages are not made of the profile's {}\n", schedule,
               alone.stages(), profiled.stages());
    return {};
  }
  const int count = profiled.stages() / alone.stages();
  job.parallel.layers_per_stage = merge_layers(profiled, count);
  PLAIT_TRY(const JobPlan plan, plan_of(std::move(job), options));
  PLAIT_TRY(const Nanoseconds predicted, forecast(plan, merge_stages(settings, count)));
  PLAIT_TRY(const std::vector<Timeline> timelines, run_steps(plan, data));
  print_row(schedule, predicted, median_span(timelines));
  return {};
}

Expected<void> run(const JobArguments& arguments, const ProfileOptions& options) {
  PLAIT_TRY(JobConfig job, arguments.read());
  PLAIT_TRY(const JobPlan plan, plan_of(std::move(job), options));
  PLAIT_TRY(const DataSplit data, open_data(plan.job.data, plan.job.model.vocab_size));
  PLAIT_TRY(const std::vector<Timeline> timelines, run_steps(plan, data));
  CostProfile profile(plan.stages());
  for (const Timeline& timeline : timelines) profile.add(timeline);
  PLAIT_TRY(const CostSettings settings, profile.settings());
  PLAIT_TRY_VOID(write_file_atomically(
      options.out, fmt::format("# {} under {}, {} ranks, {} micro-batches: medians of {} steps\n{}",
                               plan.job.name, plan.job.parallel.schedule, plan.placement().ranks,
                               plan.microbatches(), timelines.size(), print_costs(settings))));
  fmt::print("costs written to {}\n\n", options.out);
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (plan.ranks() > cores) {
    fmt::print(
        "oversubscribed: {} ranks on {} cores, so times of actions include being preempted\n",
        plan.ranks(), cores);
  }
  fmt::print("{:<24} {:>12} {:>12} {:>9}\n", "schedule", "predicted ms", "measured ms", "off");
  PLAIT_TRY(const Nanoseconds predicted, forecast(plan, settings));
  print_row(plan.job.parallel.schedule, predicted, median_span(timelines));
  for (const std::string& schedule : options.measure)
    PLAIT_TRY_VOID(measure_other(schedule, plan, settings, data, options));
  return {};
}

}  // namespace

void add_profile(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "profile", "fit costs to measured steps of a job, for simulate and compare");
  auto arguments = JobArguments::add_to(*command);
  auto options = std::make_shared<ProfileOptions>();
  command->add_option("--steps", options->steps, "steps to run; the first three are warm-up")
      ->check(CLI::Range(kWarmUp + 1, 100000));
  command->add_option("--out", options->out, "the cost file (docs/simulate.md)");
  command
      ->add_option("--measure", options->measure,
                   "also run the job under these schedules, beside what the costs predict")
      ->delimiter(',');
  command->callback([arguments, options, &exit_code] {
    const Expected<void> done = run(*arguments, *options);
    if (!done) exit_code = report("profile", done.error());
  });
}

}  // namespace plait::tools
