#include <fmt/core.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "plait/base/print.h"
#include "plait/base/write_file.h"
#include "plait/draw/lanes.h"
#include "plait/draw/svg.h"
#include "plait/ir/action_text.h"
#include "plait/sim/sensitivity.h"
#include "plait/verify/prove.h"
#include "tools/plait/commands.h"
#include "tools/plait/cost_arguments.h"
#include "tools/plait/output.h"
#include "tools/plait/terminal.h"

namespace plait::tools {
namespace {

struct SimulateArguments {
  std::string timeline;
  std::string svg;
  bool lanes = false;
  bool sensitivity = false;
  double slower = 10;  // per cent
  bool json = false;
};

const char* name_of(PairPricing pricing) {
  switch (pricing) {
    case PairPricing::kSequence:
      return "in sequence";
    case PairPricing::kBlock:
      return "as blocks";
    case PairPricing::kBraid:
      return "braided";
  }
  return "";
}

/// "2F7 at 35", where a peak is reached.
std::string place_of(const MemoryPeak& peak, const TimeUnit& unit) {
  if (peak.position < 0) return "all the time";
  return fmt::format("{} at {}", print_action(peak.action), unit.print(peak.time));
}

void print_ranks(const Price& price, const TimeUnit& unit) {
  print("\n{:>5} {:>12} {:>8} {:>10} {:>10} {:>10} {:>10} {:>16}  {}\n", "rank",
        fmt::format("idle {}", unit.name), "share", "fill", "steady", "drain", "exposed",
        price.has_bytes ? "peak bytes" : "peak activations", "reached by");
  for (std::size_t r = 0; r < price.prediction.ranks.size(); ++r) {
    const RankPrediction& rank = price.prediction.ranks[r];
    const MemoryPeak& peak = price.has_bytes ? rank.peak_bytes : rank.peak_activations;
    const double makespan = static_cast<double>(price.prediction.makespan_ns);
    const double share = makespan > 0 ? static_cast<double>(rank.idle_ns) / makespan : 0;
    print("{:>5} {:>12} {:>8} {:>10} {:>10} {:>10} {:>10} {:>16}  {}\n", r,
          unit.print(rank.idle_ns), percent(share), unit.print(rank.fill_ns),
          unit.print(rank.steady_ns), unit.print(rank.drain_ns), unit.print(rank.exposed_comm_ns),
          peak.amount, place_of(peak, unit));
  }
}

void print_sensitivity(const std::vector<RankSensitivity>& ranks, Nanoseconds makespan,
                       double slower) {
  const TimeUnit unit = TimeUnit::for_times_of(makespan);
  const std::string changed = fmt::format("{:g} % slower", slower);
  print("\n{:>5} {:>18} {:>9} {:>10}\n", "rank", changed + ", " + unit.name, "longer", "slack");
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const RankSensitivity& one = ranks[rank];
    const auto longer = static_cast<double>(one.makespan_ns - makespan);
    const char* const least = one.slack >= RankSensitivity::kMostSlack ? ">= " : "";
    print("{:>5} {:>18} {:>9} {:>10}\n", rank, unit.print(one.makespan_ns),
          percent(makespan > 0 ? longer / static_cast<double>(makespan) : 0),
          least + percent(one.slack));
  }
}

Expected<std::vector<RankSensitivity>> sensitivity_of(Schedule schedule, const CostModel& costs,
                                                      double slower) {
  PLAIT_TRY(schedule, as_priced(std::move(schedule), costs));
  PLAIT_TRY(const VerifiedSchedule verified, prove(std::move(schedule)));
  constexpr double kPerCent = 0.01;
  return rank_sensitivity(verified, costs, slower * kPerCent);
}

nlohmann::ordered_json print_json(const Price& price, const std::vector<RankSensitivity>& ranks) {
  nlohmann::ordered_json json = print_price_json(price);
  if (ranks.empty()) return json;
  auto& slower = json["slower_makespan_ns"] = nlohmann::ordered_json::array();
  auto& slack = json["slack"] = nlohmann::ordered_json::array();
  for (const RankSensitivity& rank : ranks) {
    slower.push_back(rank.makespan_ns);
    slack.push_back(rank.slack);
  }
  return json;
}

void print_lanes(const Timeline& timeline) {
  print("\n");
  for (const std::string& line : draw_lanes(timeline, {has_colours(), terminal_size().columns}))
    print("{}\n", line);
}

void print_critical_path(const Prediction& prediction, const TimeUnit& unit) {
  std::set<int> ranks;
  Nanoseconds waits = 0;
  std::size_t hops = 0;
  const std::vector<CriticalStep>& path = prediction.critical_path;
  for (std::size_t i = 0; i < path.size(); ++i) {
    ranks.insert(path[i].rank);
    waits += path[i].wait;
    if (i > 0 && path[i].rank != path[i - 1].rank) ++hops;
  }
  print("\ncritical path: {} actions on {} ranks, {} hops between ranks, {} {} of waiting\n",
        path.size(), ranks.size(), hops, unit.print(waits), unit.name);
}

void print_price(const Price& price, const CostModel& costs) {
  const Prediction& prediction = price.prediction;
  const TimeUnit unit = TimeUnit::for_times_of(prediction.makespan_ns);
  print("{}: {} ranks, {} micro-batches, {} {} a rank\n", price.schedule, price.ranks,
        price.microbatches, price.chunks, price.chunks == 1 ? "stage" : "stages");
  print("makespan {} {}, longest span of a rank {} {}\n", unit.print(prediction.makespan_ns),
        unit.name, unit.print(prediction.span_ns), unit.name);
  print("bound {} {} ({}): the makespan is {} above it, by {} {}\n",
        unit.print(price.bound.makespan), unit.name, price.bound.name,
        percent(price.share_above_bound()), unit.print(price.above_bound()), unit.name);
  if (prediction.pair_coverage > 0) {
    print("{} of the forwards inside a pair, pairs {}\n", percent(prediction.pair_coverage),
          name_of(costs.pairs.pricing));
  }
  print_ranks(price, unit);
  print_critical_path(prediction, unit);
}

Expected<void> run(const ScheduleArguments& schedule_arguments, const CostArguments& cost_arguments,
                   const LoweringArguments& lowering, const SimulateArguments& arguments) {
  PLAIT_TRY(const CostSettings settings, cost_arguments.settings());
  ScheduleShape wanted;
  if (const int stages = schedule_arguments.generated_stages(); stages > 0) {
    PLAIT_TRY(const CostModel for_generator, make_cost_model(settings, stages));
    wanted.costs = for_generator.actions;
  }
  PLAIT_TRY(Schedule schedule, schedule_arguments.load(wanted));
  PLAIT_TRY(schedule, lowering.apply(std::move(schedule)));
  PLAIT_TRY(const CostModel costs, make_cost_model(settings, schedule.placement.stages()));
  SimulateOptions options;
  options.critical_path = !arguments.json;
  options.keep_timeline = arguments.lanes || !arguments.timeline.empty() || !arguments.svg.empty();
  std::vector<RankSensitivity> sensitivity;
  if (arguments.sensitivity) {
    PLAIT_TRY(sensitivity, sensitivity_of(schedule, costs, arguments.slower));
  }
  PLAIT_TRY(const Price priced, price(std::move(schedule), costs, options));
  if (!arguments.timeline.empty()) {
    PLAIT_TRY_VOID(
        write_file_atomically(arguments.timeline, print_chrome_trace(*priced.prediction.timeline)));
  }
  if (!arguments.svg.empty()) {
    const std::string title = fmt::format("{}, {} ranks, {} micro-batches", priced.schedule,
                                          priced.ranks, priced.microbatches);
    PLAIT_TRY_VOID(
        write_file_atomically(arguments.svg, draw_svg(*priced.prediction.timeline, {title})));
  }
  if (arguments.json) {
    print("{}\n", print_json(priced, sensitivity).dump(1));
  } else {
    print_price(priced, costs);
    if (arguments.sensitivity)
      print_sensitivity(sensitivity, priced.prediction.makespan_ns, arguments.slower);
    if (arguments.lanes) print_lanes(*priced.prediction.timeline);
  }
  return {};
}

}  // namespace

void add_simulate(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("simulate", "how long a step takes and what each rank holds");
  auto schedule = ScheduleArguments::add_to(*command);
  auto lowering = LoweringArguments::add_to(*command);
  auto costs = CostArguments::add_to(*command);
  auto arguments = std::make_shared<SimulateArguments>();
  command->add_option("--timeline", arguments->timeline,
                      "write what ran when to this file, for Perfetto or chrome://tracing");
  command->add_option("--svg", arguments->svg, "draw what ran when into this file");
  CLI::Option* lanes = command->add_flag("--lanes", arguments->lanes,
                                         "also draw what ran when, in letters or colours");
  CLI::Option* sensitivity = command->add_flag(
      "--sensitivity", arguments->sensitivity,
      "also what if one rank is slower, and how much slower each may be before the step is longer");
  command
      ->add_option("--slower", arguments->slower,
                   "per cent by which that rank is slower, 10 unless given")
      ->check(CLI::Range(0.0, 1000.0))
      ->needs(sensitivity);
  command->add_flag("--json", arguments->json, "for machines")->excludes(lanes);
  command->callback([schedule, costs, lowering, arguments, &exit_code] {
    const Expected<void> done = run(*schedule, *costs, *lowering, *arguments);
    if (!done) exit_code = report("simulate", done.error());
  });
}

}  // namespace plait::tools
