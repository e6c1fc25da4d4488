#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "plait/schedule/generators.h"
#include "plait/sim/forecast.h"
#include "plait/sim/simulate.h"
#include "tools/plait/job_arguments.h"
#include "tools/plait/measured_comparison.h"
#include "tools/plait/measured_steps.h"
#include "tools/plait/output.h"

namespace plait::tools {
namespace {

/// A schedule that the job runs, and the spans of its steps.
struct Measured {
  std::string name;
  JobPlan plan;
  int merged = 1;  ///< of the profile's stages in each of its own
  std::vector<Nanoseconds> spans{};
  Nanoseconds predicted = 0;
  std::vector<Bytes> peaks{};  ///< of the rank that holds most, by step
  Bytes predicted_peak = 0;    ///< 0 where the costs have no bytes

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
  Bytes mean_peak() const {
    RunningMean mean;
    for (const Bytes peak : peaks) mean.add(peak);
    return mean.value();
  }
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

/// "dualpipe-v", or with exchanges "dualpipe-v, pairs braid".
std::string name_of(const JobPlan& plan) {
  const std::string& schedule = plan.job.parallel.schedule;
  return plan.has_exchanges() ? schedule + ", pairs " + plan.job.parallel.pairs : schedule;
}

bool has_pairs(const JobPlan& plan) {
  for (const RankProgram& program : plan.training_programs) {
    for (const Instruction& instruction : program.instructions)
      if (instruction.pair >= 0) return true;
  }
  return false;
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

/// What a profile is fitted to and forecasts come from: of one column of stages that compute, the
/// costs of their actions; otherwise those of the lowered programs' instructions.
struct Profile {
  explicit Profile(const JobPlan& plan)
      : whole_actions(has_whole_actions(plan)),
        actions(plan.placement(), plan.message_bytes()),
        instructions(plan.training_programs, plan.grid()) {}

  void add(const Timeline& timeline) {
    if (whole_actions) {
      actions.add(timeline);
    } else {
      instructions.add(timeline);
    }
  }

  bool whole_actions;
  CostProfile actions;
  InstructionCosts instructions;
};

/// The same layers under another schedule. Errors: why it cannot be compared.
Expected<Measured> plan_other(const JobPlan& profiled, const std::string& schedule,
                              const std::string& pairs, int steps) {
  JobConfig job = profiled.job;
  job.parallel.schedule = schedule;
  job.parallel.pairs = pairs;
  job.parallel.chunks = 0;
  job.parallel.layers_per_stage.clear();
  PLAIT_TRY(const JobPlan alone, plan_to_measure(job, steps));
  if (profiled.stages() % alone.stages() != 0) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("its {} stages are not made of the profile's {}", alone.stages(),
                            profiled.stages()));
  }
  const int merged = profiled.stages() / alone.stages();
  if (merged > 1 && !has_whole_actions(profiled)) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("it has {} stages, the profile {}: where rows are exchanged they must "
                            "be the same",
                            alone.stages(), profiled.stages()));
  }
  job.parallel.layers_per_stage = merge_layers(profiled, merged);
  PLAIT_TRY(JobPlan plan, plan_to_measure(std::move(job), steps));
  return Measured{name_of(plan), std::move(plan), merged};
}

Expected<void> predict(const Profile& profile, Measured& measured) {
  PLAIT_TRY(const Timeline timeline,
            forecast(measured.plan.training_programs, measured.plan.grid(), profile.instructions));
  measured.predicted = measure(timeline).span_ns;
  return {};
}

Expected<void> predict(const CostProfile& profile, const CostSettings& settings,
                       Measured& measured) {
  const CostSettings own =
      measured.merged > 1 ? profile.merged(settings, measured.merged) : settings;
  PLAIT_TRY(const CostModel costs, make_cost_model(own, measured.plan.stages()));
  PLAIT_TRY(const Prediction prediction, simulate(measured.plan.training, costs));
  measured.predicted = prediction.makespan_ns;
  for (const RankPrediction& rank : prediction.ranks)
    measured.predicted_peak = std::max(measured.predicted_peak, rank.peak_bytes.amount);
  return {};
}

/// Runs a schedule once more, and fits it to a profile if there is one.
Expected<void> run_again(Measured& one, const DataSplit& data, const EmulatedLink& link,
                         Profile* profile) {
  PLAIT_TRY(const std::vector<StepOutcome> outcomes, run_steps(one.plan, data, link));
  for (const StepOutcome& outcome : outcomes) {
    one.spans.push_back(outcome.line.span_ns);
    const std::vector<Bytes>& peaks = outcome.line.peak_activation_bytes;
    one.peaks.push_back(*std::max_element(peaks.begin(), peaks.end()));
    if (profile != nullptr) profile->add(outcome.timeline);
  }
  return {};
}

double milliseconds(Nanoseconds time) { return static_cast<double>(time) / 1e6; }

/// "   12.3    12.1   +1.2 %"; of a forecast without bytes only what was measured.
std::string peak_text(const Measured& one) {
  const double measured = static_cast<double>(one.mean_peak()) / 1e6;
  if (one.predicted_peak == 0) return fmt::format("{:>9} {:>9.2f} {:>9}", "-", measured, "");
  const double predicted = static_cast<double>(one.predicted_peak) / 1e6;
  return fmt::format("{:>9.2f} {:>9.2f} {:>+7.1f} %", predicted, measured,
                     100 * (predicted / measured - 1));
}

void print_table(const std::vector<Measured>& all, const std::vector<LeftOut>& left_out) {
  print("{}{:<26} {:>9} {:>9} {:>9} {:>19} {:>9} {:>9} {:>9}\n", describe_cores(all.front().plan),
        "schedule", "predicted", "measured", "off", "80 % of steps", "peak MB", "measured", "off");
  for (const Measured& one : all) {
    print("{:<26} {:>6.1f} ms {:>6.1f} ms {:>+7.1f} % {:>8.1f} … {:>8.1f} {}\n", one.name,
          milliseconds(one.predicted), milliseconds(one.mean()), 100 * one.off(),
          milliseconds(one.quantile(0.1)), milliseconds(one.quantile(0.9)), peak_text(one));
  }
  if (!left_out.empty()) print("\nleft out:\n");
  for (const LeftOut& one : left_out) print("  {}: {}\n", one.schedule, one.why);
}

void print_json(const std::vector<Measured>& all, const std::vector<LeftOut>& left_out) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Measured& one : all) {
    rows.push_back({{"schedule", one.plan.job.parallel.schedule},
                    {"pairs", one.plan.job.parallel.pairs},
                    {"predicted_ns", one.predicted},
                    {"measured_ns", one.mean()},
                    {"span_ns", one.spans},
                    {"predicted_peak_bytes", one.predicted_peak},
                    {"measured_peak_bytes", one.mean_peak()}});
  }
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const LeftOut& one : left_out) out.push_back({{"schedule", one.schedule}, {"why", one.why}});
  const nlohmann::ordered_json document = {{"schedules", std::move(rows)},
                                           {"left_out", std::move(out)}};
  print("{}\n", document.dump(1));
}

/// The job's own first, so that its other ways to run pairs stand behind it.
std::vector<std::string> schedules_of(const MeasureArguments& arguments, const JobPlan& first) {
  std::vector<std::string> all{first.job.parallel.schedule};
  if (!arguments.schedules.empty()) {
    all.insert(all.end(), arguments.schedules.begin(), arguments.schedules.end());
    return all;
  }
  for (const GeneratorInfo& info : kGenerators) all.emplace_back(info.name);
  return all;
}

/// Whether it would run what another one does: a schedule without pairs runs one way.
bool is_known(const std::vector<Measured>& all, const Measured& other) {
  return std::any_of(all.begin(), all.end(), [&](const Measured& one) {
    if (one.plan.job.parallel.schedule != other.plan.job.parallel.schedule) return false;
    return one.name == other.name || !(has_pairs(one.plan) || has_pairs(other.plan));
  });
}

/// The first is the job as it stands, which is what is profiled. With exchanges, each way to run
/// a schedule's pairs is one of them.
Expected<std::vector<Measured>> plan_all(const MeasureArguments& arguments,
                                         std::vector<LeftOut>& left_out) {
  PLAIT_TRY(JobConfig job, read_job(arguments));
  PLAIT_TRY(JobPlan first, plan_to_measure(std::move(job), arguments.steps));
  std::vector<Measured> all;
  all.push_back({name_of(first), std::move(first)});
  const bool exchanges = all.front().plan.has_exchanges();
  for (const std::string& schedule : schedules_of(arguments, all.front().plan)) {
    std::vector<std::string> ways{all.front().plan.job.parallel.pairs};
    if (exchanges) ways = {"off", "sequence", "braid"};
    for (const std::string& pairs : ways) {
      Expected<Measured> other = plan_other(all.front().plan, schedule, pairs, arguments.steps);
      if (!other) {
        if (!arguments.schedules.empty()) return tl::unexpected<Error>(std::move(other).error());
        left_out.push_back({schedule, other.error().text()});
        break;
      }
      if (is_known(all, *other)) continue;
      all.push_back(*std::move(other));
    }
  }
  return all;
}

Expected<void> predict_all(const std::optional<CostSettings>& given, const Profile& profile,
                           std::vector<Measured>& all) {
  if (!profile.whole_actions) {
    for (Measured& one : all) PLAIT_TRY_VOID(predict(profile, one));
    return {};
  }
  CostSettings settings;
  if (given) {
    settings = *given;
    // Measured peaks are without them.
    settings.of(StageKey::kParameterBytes).reset();
    settings.of(StageKey::kGradientBytes).reset();
  } else {
    PLAIT_TRY(settings, profile.actions.settings());
  }
  for (Measured& one : all) PLAIT_TRY_VOID(predict(profile.actions, settings, one));
  return {};
}

}  // namespace

Expected<void> compare_with_measured(const MeasureArguments& arguments) {
  std::vector<LeftOut> left_out;
  std::optional<CostSettings> costs;
  if (arguments.costs) {
    PLAIT_TRY(costs, arguments.costs());
  }
  PLAIT_TRY(std::vector<Measured> all, plan_all(arguments, left_out));
  const JobPlan& plan = all.front().plan;
  Profile profile(plan);
  if (costs && !profile.whole_actions) {
    return fail(ErrorCode::kInvalidInput,
                "a cost file has no place for exchanges and reductions, needed a profile in the "
                "same run",
                "--costs");
  }
  PLAIT_TRY(const DataSplit data, open_data(plan.job.data, plan.job.model.vocab_size));
  const EmulatedLink link{static_cast<Nanoseconds>(arguments.link_latency_us * 1e3),
                          static_cast<Bytes>(arguments.link_mb_per_s * 1e6)};
  for (int round = 1; round <= arguments.rounds; ++round) {
    if (isatty(STDERR_FILENO) == 1) fmt::print(stderr, "round {}/{}\n", round, arguments.rounds);
    PLAIT_TRY_VOID(run_again(all.front(), data, link, &profile));
    // What the profile lacks is found before the others run.
    if (round == 1) PLAIT_TRY_VOID(predict_all(costs, profile, all));
    for (std::size_t i = 1; i < all.size(); ++i)
      PLAIT_TRY_VOID(run_again(all[i], data, link, nullptr));
  }
  PLAIT_TRY_VOID(predict_all(costs, profile, all));
  if (arguments.json) {
    print_json(all, left_out);
    return {};
  }
  print_table(all, left_out);
  if (!profile.whole_actions) {
    print("\ncompute takes {:+.1f} % longer in braided pairs\n",
          100 * profile.instructions.interference());
  }
  return {};
}

}  // namespace plait::tools
