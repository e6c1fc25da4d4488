#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "plait/schedule/generators.h"
#include "plait/sim/simulate.h"
#include "tools/plait/job_arguments.h"
#include "tools/plait/measure.h"
#include "tools/plait/torch_steps.h"

namespace plait::tools {
namespace {

/// A schedule that the job runs, and the spans of its steps.
struct Measured {
  JobPlan plan;
  int merged = 1;  ///< of the profile's stages in each of its own
  std::vector<Nanoseconds> spans{};
  Nanoseconds predicted = 0;

  Nanoseconds mean() const {
    RunningMean mean;
    for (const Nanoseconds span : spans) mean.add(span);
    return mean.value();
  }
  /// The span that `share` of the steps do not exceed.
  Nanoseconds quantile(double share) const {
    std::vector<Nanoseconds> sorted = spans;
    std::sort(sorted.begin(), sorted.end());
    return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))];
  }
  double off() const { return static_cast<double>(predicted) / static_cast<double>(mean()) - 1; }
};

struct LeftOut {
  std::string schedule, why;
};

Expected<JobConfig> read_job(const MeasureArguments& arguments) {
  JobArguments job;
  job.job = arguments.job;
  job.settings = arguments.settings;
  if (arguments.ranks > 0) job.ranks = std::to_string(arguments.ranks);
  if (arguments.microbatches > 0) job.microbatches = std::to_string(arguments.microbatches);
  return job.read();
}

/// The profile's layers on stages of which each holds `count` of the profile's.
std::vector<int> merge_layers(const JobPlan& profiled, int count) {
  std::vector<int> layers;
  for (int stage = 0; stage < profiled.stages(); ++stage) {
    if (stage % count == 0) layers.push_back(0);
    layers.back() += profiled.parts[static_cast<std::size_t>(stage)].layers();
  }
  return layers;
}

/// The same layers under another schedule. Errors: why it cannot be compared.
Expected<Measured> plan_other(const JobPlan& profiled, const std::string& schedule, int steps) {
  JobConfig job = profiled.job;
  job.parallel.schedule = schedule;
  job.parallel.chunks = 0;
  job.parallel.layers_per_stage.clear();
  PLAIT_TRY(const JobPlan alone, plan_to_measure(job, steps));
  if (profiled.stages() % alone.stages() != 0) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("its {} stages are not made of the profile's {}", alone.stages(),
                            profiled.stages()));
  }
  const int merged = profiled.stages() / alone.stages();
  job.parallel.layers_per_stage = merge_layers(profiled, merged);
  PLAIT_TRY(JobPlan plan, plan_to_measure(std::move(job), steps));
  return Measured{std::move(plan), merged};
}

Expected<void> predict(const CostSettings& settings, Measured& measured) {
  const CostSettings own = measured.merged > 1 ? merge_stages(settings, measured.merged) : settings;
  PLAIT_TRY(const CostModel costs, make_cost_model(own, measured.plan.stages()));
  PLAIT_TRY(const Prediction prediction, simulate(measured.plan.training, costs));
  measured.predicted = prediction.makespan_ns;
  return {};
}

/// Each schedule once. Fits the first to `profile`, if there is one.
Expected<void> run_round(std::vector<Measured>& all, const DataSplit& data, CostProfile* profile) {
  for (Measured& one : all) {
    PLAIT_TRY(const std::vector<StepOutcome> outcomes, run_steps(one.plan, data));
    for (const StepOutcome& outcome : outcomes) {
      one.spans.push_back(outcome.line.span_ns);
      if (profile != nullptr && &one == &all.front()) profile->add(outcome.timeline);
    }
  }
  return {};
}

double milliseconds(Nanoseconds time) { return static_cast<double>(time) / 1e6; }

void print_table(const std::vector<Measured>& all, const std::vector<LeftOut>& left_out) {
  fmt::print("{}{:<24} {:>12} {:>12} {:>9} {:>20}\n", describe_cores(all.front().plan), "schedule",
             "predicted ms", "measured ms", "off", "80 % of steps");
  for (const Measured& one : all) {
    fmt::print("{:<24} {:>12.2f} {:>12.2f} {:>+7.1f} % {:>9.2f} … {:>8.2f}\n",
               one.plan.job.parallel.schedule, milliseconds(one.predicted),
               milliseconds(one.mean()), 100 * one.off(), milliseconds(one.quantile(0.1)),
               milliseconds(one.quantile(0.9)));
  }
  if (!left_out.empty()) fmt::print("\nleft out:\n");
  for (const LeftOut& one : left_out) fmt::print("  {}: {}\n", one.schedule, one.why);
}

void print_json(const std::vector<Measured>& all, const std::vector<LeftOut>& left_out) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Measured& one : all) {
    rows.push_back({{"schedule", one.plan.job.parallel.schedule},
                    {"predicted_ns", one.predicted},
                    {"measured_ns", one.mean()},
                    {"span_ns", one.spans}});
  }
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const LeftOut& one : left_out) out.push_back({{"schedule", one.schedule}, {"why", one.why}});
  const nlohmann::ordered_json document = {{"schedules", std::move(rows)},
                                           {"left_out", std::move(out)}};
  fmt::print("{}\n", document.dump(1));
}

std::vector<std::string> schedules_of(const MeasureArguments& arguments) {
  if (!arguments.schedules.empty()) return arguments.schedules;
  std::vector<std::string> all;
  for (const GeneratorInfo& info : kGenerators) all.emplace_back(info.name);
  return all;
}

}  // namespace

Expected<void> compare_with_measured(const MeasureArguments& arguments) {
  PLAIT_TRY(JobConfig job, read_job(arguments));
  const std::string profiled = job.parallel.schedule;
  PLAIT_TRY(JobPlan first, plan_to_measure(std::move(job), arguments.steps));
  std::vector<Measured> all;
  std::vector<LeftOut> left_out;
  all.push_back({std::move(first)});
  for (const std::string& schedule : schedules_of(arguments)) {
    if (schedule == profiled) continue;
    Expected<Measured> other = plan_other(all.front().plan, schedule, arguments.steps);
    if (other) {
      all.push_back(*std::move(other));
    } else if (arguments.schedules.empty()) {
      left_out.push_back({schedule, other.error().text()});
    } else {
      return tl::unexpected<Error>(std::move(other).error());
    }
  }
  const JobPlan& plan = all.front().plan;
  PLAIT_TRY(const DataSplit data, open_data(plan.job.data, plan.job.model.vocab_size));
  CostProfile profile(plan.stages());
  for (int round = 1; round <= arguments.rounds; ++round) {
    if (isatty(STDERR_FILENO) == 1) fmt::print(stderr, "round {}/{}\n", round, arguments.rounds);
    PLAIT_TRY_VOID(run_round(all, data, arguments.costs ? nullptr : &profile));
  }
  CostSettings settings;
  if (arguments.costs) {
    settings = *arguments.costs;
  } else {
    PLAIT_TRY(settings, profile.settings());
  }
  for (Measured& one : all) PLAIT_TRY_VOID(predict(settings, one));
  if (arguments.json) {
    print_json(all, left_out);
  } else {
    print_table(all, left_out);
  }
  return {};
}

}  // namespace plait::tools
