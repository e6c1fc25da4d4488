#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "plait/base/print.h"
#include "plait/compare/compare.h"
#include "plait/ir/action_text.h"
#include "plait/launch/launch.h"
#include "tools/plait/commands.h"
#include "tools/plait/cost_arguments.h"
#include "tools/plait/measured_comparison.h"
#include "tools/plait/output.h"

namespace plait::tools {
namespace {

struct CompareArguments {
  int ranks = 0;
  int microbatches = 0;
  int chunks = 0;
  bool any_m = false;
  std::string memory;
  std::shared_ptr<LoweringArguments> lowering;
  bool exact_bound = false;
  MeasureArguments measure;
  bool json = false;
};

/// Of each rank; of many ranks the fewest and the most.
std::string slots_of(const Price& price) {
  constexpr std::size_t kEach = 8;
  const std::vector<int>& slots = price.activation_slots;
  if (slots.size() <= kEach) return fmt::format("{}", fmt::join(slots, " "));
  const auto [least, most] = std::minmax_element(slots.begin(), slots.end());
  return fmt::format("{}-{}", *least, *most);
}

void print_row(const PricedLowering& one, const Comparison& comparison, std::size_t width,
               const TimeUnit& unit) {
  const Price& price = one.price;
  const double makespan = static_cast<double>(price.prediction.makespan_ns);
  const double share = makespan > 0 ? static_cast<double>(price.worst_idle()) / makespan : 0;
  const std::string peak = price.has_bytes ? fmt::format("{}", price.worst_peak())
                                           : fmt::format("{:.2f}", peak_activations(price));
  print("{:{}} {:>2} ", price.schedule, width, price.chunks);
  if (comparison.searches()) print("{:>6} {:>5} ", one.options.max_active_stages, one.lookahead);
  print("{:>12} {:>12} {:>12} {:>8} {:>12} {:>16} {:>8}  {}\n",
        unit.print(price.prediction.makespan_ns), unit.print(price.prediction.span_ns),
        unit.print(price.worst_idle()), percent(share), unit.print(price.above_bound()), peak,
        percent(price.prediction.pair_coverage), slots_of(price));
}

/// The rank that holds most and the one that waits longest for bytes.
std::string limits_of(const Price& price, const TimeUnit& unit) {
  const std::vector<RankPrediction>& ranks = price.prediction.ranks;
  const auto held = [&](const RankPrediction& rank) {
    return price.has_bytes ? rank.peak_bytes : rank.peak_activations;
  };
  const auto most = std::max_element(ranks.begin(), ranks.end(), [&](const auto& a, const auto& b) {
    return held(a).amount < held(b).amount;
  });
  const auto longest = std::max_element(
      ranks.begin(), ranks.end(),
      [](const auto& a, const auto& b) { return a.exposed_comm_ns < b.exposed_comm_ns; });
  return fmt::format("rank {} holds {} {} at {}, rank {} waits {} {} for bytes",
                     most - ranks.begin(), held(*most).amount,
                     price.has_bytes ? "bytes" : "stage activations",
                     print_action(held(*most).action), longest - ranks.begin(),
                     unit.print(longest->exposed_comm_ns), unit.name);
}

/// Which lowering is the best that fits, and whether the cap keeps a faster one out.
void print_best(const Comparison& comparison, const MemoryCap& cap, const TimeUnit& unit) {
  if (!comparison.searches()) return;
  print("\n{} lowerings tried, all proven\n", comparison.tried);
  const auto line = [&](const PricedLowering& one) {
    return fmt::format("{} {}: {} {}; {}", one.price.schedule, flags_of(one),
                       unit.print(one.price.prediction.makespan_ns), unit.name,
                       limits_of(one.price, unit));
  };
  if (!comparison.fit.empty()) print("best: {}\n", line(comparison.fit.front()));
  if (!cap.is_given()) return;
  if (const PricedLowering* faster = comparison.kept_out_by_cap()) {
    print("memory binds: {}\n", line(*faster));
  } else {
    print("memory does not bind: nothing that holds more is faster\n");
  }
}

void print_table(const Comparison& comparison, const MemoryCap& cap) {
  Nanoseconds longest = 0;
  std::size_t width = 8;
  for (const PricedLowering& one : comparison.fit) {
    longest = std::max(longest, one.price.prediction.makespan_ns);
    width = std::max(width, one.price.schedule.size());
  }
  const TimeUnit unit = TimeUnit::for_times_of(longest);
  const bool bytes = !comparison.fit.empty() && comparison.fit.front().price.has_bytes;
  print("{:{}} {:>2} ", "schedule", width, "V");
  if (comparison.searches()) print("{:>6} {:>5} ", "active", "ahead");
  print("{:>12} {:>12} {:>12} {:>8} {:>12} {:>16} {:>8}  {}\n",
        fmt::format("makespan {}", unit.name), "span", "worst idle", "share", "above bound",
        bytes ? "peak bytes" : "peak activations", "pairs", "slots");
  for (const PricedLowering& one : comparison.fit) print_row(one, comparison, width, unit);
  print_best(comparison, cap, unit);
  if (!comparison.left_out.empty()) print("\nleft out:\n");
  for (const LeftOut& one : comparison.left_out) print("  {}: {}\n", one.schedule, one.why);
}

void print_json(const Comparison& comparison) {
  using Json = nlohmann::ordered_json;
  const auto print_one = [&](const PricedLowering& one) {
    Json json = print_price_json(one.price);
    if (!comparison.searches()) return json;
    json["max_active_stages"] = one.options.max_active_stages;
    json["unshard_lookahead"] = one.options.unshard_lookahead;
    return json;
  };
  Json fit = Json::array();
  for (const PricedLowering& one : comparison.fit) fit.push_back(print_one(one));
  Json left_out = Json::array();
  for (const LeftOut& one : comparison.left_out)
    left_out.push_back({{"schedule", one.schedule}, {"why", one.why}});
  Json all = {{"schedules", std::move(fit)}, {"left_out", std::move(left_out)}};
  if (comparison.searches()) {
    const PricedLowering* faster = comparison.kept_out_by_cap();
    all["tried"] = comparison.tried;
    all["kept_out_by_memory"] = faster == nullptr ? Json() : print_one(*faster);
  }
  print("{}\n", all.dump(1));
}

Expected<void> measure(const CostArguments& costs, const CompareArguments& arguments) {
  MeasureArguments measured = arguments.measure;
  measured.ranks = arguments.ranks;
  measured.microbatches = arguments.microbatches;
  measured.json = arguments.json;
  if (costs.is_given()) measured.costs = [&costs] { return costs.settings(); };
  return compare_with_measured(measured);
}

Expected<void> compare(const CostArguments& cost_arguments, const CompareArguments& arguments) {
  if (!arguments.measure.job.empty()) {
    PLAIT_TRY_VOID(check_measures_alone(current_environment(), "compare --measure"));
    return measure(cost_arguments, arguments);
  }
  for (const auto& [flag, value] :
       {std::pair{"--ranks", arguments.ranks}, {"--microbatches", arguments.microbatches}}) {
    if (value == 0) return fail(ErrorCode::kInvalidInput, "is missing, needed a number", flag);
  }
  PLAIT_TRY(const CostSettings settings, cost_arguments.settings());
  CompareQuestion question;
  question.ranks = arguments.ranks;
  question.microbatches = arguments.microbatches;
  question.chunks = arguments.chunks;
  question.any_m = arguments.any_m;
  question.exact_bound = arguments.exact_bound;
  PLAIT_TRY(question.cap, parse_memory(arguments.memory, question.cap_name));
  PLAIT_TRY(const ResidencyQuestion lowerings, arguments.lowering->question());
  if (arguments.lowering->lower) question.lowerings = lowerings;
  PLAIT_TRY(const Comparison comparison, compare_schedules(question, settings));
  for (const PricedLowering& one : comparison.fit)
    arguments.lowering->print_notes(one.price.schedule, one.notes);
  if (arguments.json) {
    print_json(comparison);
  } else {
    print_table(comparison, question.cap);
  }
  return {};
}

void add_measure(CLI::App& command, CompareArguments& arguments) {
  MeasureArguments& measure = arguments.measure;
  const std::string group = "Beside what happens";
  CLI::Option* job =
      command
          .add_option("--measure", measure.job,
                      "run this job under each schedule, beside what is forecast; without costs "
                      "it is profiled first")
          ->group(group);
  command.add_option("--set", measure.settings, "section.key=value, wins over the job's file")
      ->take_all()
      ->allow_extra_args(false)
      ->needs(job)
      ->group(group);
  command
      .add_option("--schedules", measure.schedules,
                  "these schedules; otherwise all that the job can run")
      ->delimiter(',')
      ->needs(job)
      ->group(group);
  command.add_option("--steps", measure.steps, "steps of each schedule in a round, after warm-up")
      ->check(CLI::Range(1, 100000))
      ->needs(job)
      ->group(group);
  command.add_option("--rounds", measure.rounds, "how often to go through the schedules")
      ->check(CLI::Range(1, 1000))
      ->needs(job)
      ->group(group);
  command
      .add_option("--link-latency-us", measure.link_latency_us,
                  "emulate a link between the ranks: its latency")
      ->check(CLI::NonNegativeNumber)
      ->needs(job)
      ->group(group);
  command
      .add_option("--link-mb-per-s", measure.link_mb_per_s,
                  "and the bandwidth out of each rank; 0: no limit")
      ->check(CLI::NonNegativeNumber)
      ->needs(job)
      ->group(group);
  for (const char* other : {"--chunks", "--any-m", "--memory"})
    command.get_option(other)->excludes(job);
}

}  // namespace

void add_compare(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("compare", "all schedules of a shape by their makespan");
  auto arguments = std::make_shared<CompareArguments>();
  command->add_option("--ranks", arguments->ranks, "ranks P")->check(CLI::Range(1, 1 << 16));
  command->add_option("--microbatches", arguments->microbatches, "micro-batches M")
      ->check(CLI::Range(1, 1 << 24));
  command
      ->add_option("--chunks", arguments->chunks,
                   "stages per rank V, where the schedule leaves a choice")
      ->check(CLI::Range(1, 1 << 10));
  command->add_flag("--any-m", arguments->any_m,
                    "also for micro-batches outside the schedules' own limits (docs/schedules.md)");
  CLI::Option* memory =
      command->add_option("--memory", arguments->memory,
                          "most a rank may hold: activations of its whole share, or bytes (64GiB)");
  arguments->lowering = LoweringArguments::add_search_to(*command);
  auto costs = CostArguments::add_to(*command);
  add_measure(*command, *arguments);
  command->footer("Costs here are those of a rank's whole share, whatever its number of stages.");
  command
      ->add_flag("--exact-bound", arguments->exact_bound,
                 "bound by the best order of one rank, the others as delays: tighter, and slow")
      ->needs(memory);
  command->add_flag("--json", arguments->json, "for machines");
  command->callback([arguments, costs, &exit_code] {
    const Expected<void> done = compare(*costs, *arguments);
    if (!done) exit_code = report("compare", done.error());
  });
}

}  // namespace plait::tools
