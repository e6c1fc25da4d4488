#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "plait/base/print.h"
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

/// A rank's cap: of the activations of so many micro-batches' share, or in bytes.
struct MemoryCap {
  std::optional<double> activations{};
  std::optional<Bytes> bytes{};

  bool is_given() const { return activations || bytes; }
};

struct LeftOut {
  std::string_view schedule;
  std::string why;
};

struct Comparison {
  ResidencyQuestion question;       ///< of --lower
  std::vector<PricedLowering> fit;  ///< of each schedule the best that fits
  std::vector<LeftOut> left_out;
  std::optional<PricedLowering> over_cap;  ///< the best that holds too much
  std::size_t tried = 0;                   ///< lowerings, all proven

  bool searches() const { return question.any_active_stages || question.any_lookahead; }
  /// The best that holds too much, if it is faster than all that fit; needs `fit` in order.
  const PricedLowering* kept_out_by_cap() const {
    if (!over_cap || (!fit.empty() && over_cap->price.prediction.makespan_ns >=
                                          fit.front().price.prediction.makespan_ns))
      return nullptr;
    return &*over_cap;
  }
};

Expected<MemoryCap> parse_memory(const std::string& text) {
  MemoryCap cap;
  if (text.empty()) return cap;
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  const std::string_view unit(stop, static_cast<std::size_t>(end - stop));
  constexpr std::array<std::pair<std::string_view, double>, 8> kUnits{{{"", 0},
                                                                       {"B", 1},
                                                                       {"MB", 1e6},
                                                                       {"GB", 1e9},
                                                                       {"TB", 1e12},
                                                                       {"MiB", 1048576.0},
                                                                       {"GiB", 1073741824.0},
                                                                       {"TiB", 1099511627776.0}}};
  const auto* const found = std::find_if(kUnits.begin(), kUnits.end(),
                                         [&](const auto& one) { return one.first == unit; });
  constexpr double kLargest = 1e18;
  if (error != std::errc() || found == kUnits.end() || !(number > 0) ||
      number * std::max(found->second, 1.0) > kLargest) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("found '{}', needed activations such as 4 or 4.5, or bytes such as "
                            "64GiB (B, MB, GB, TB, MiB, GiB, TiB)",
                            text),
                "--memory");
  }
  if (unit.empty()) {
    cap.activations = number;
  } else {
    cap.bytes = static_cast<Bytes>(number * found->second);
  }
  return cap;
}

std::int64_t share_of(std::int64_t amount, int chunks) { return (amount + chunks / 2) / chunks; }

/// What a stage costs if a rank's whole share, in V = `chunks` stages, costs `settings`.
Expected<CostSettings> split_over(CostSettings settings, int chunks) {
  bool any_time = false;
  for (const StageKeyInfo& info : kStageKeys) {
    std::optional<StageCost>& cost = settings.of(info.key);
    if (!cost) continue;
    any_time = any_time || info.key <= StageKey::kBackward;
    if (cost->is_list) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{} is a list by stage, needed a number for a rank's whole share: "
                              "schedules of different V are compared",
                              info.name),
                  cost->where);
    }
    for (std::int64_t& value : cost->values) value = share_of(value, chunks);
  }
  if (!any_time) {
    // F, I and W of a rank take 12 ns, or what can be split without a remainder.
    const std::int64_t unit = std::lcm<std::int64_t>(12, chunks) / chunks;
    for (const StageKey key :
         {StageKey::kForward, StageKey::kBackwardInput, StageKey::kBackwardWeight})
      settings.of(key) = StageCost{{unit}, false, "costs"};
  }
  if (settings.pair) settings.pair = share_of(*settings.pair, chunks);
  if (settings.braid) {
    for (LayerSegment& segment : settings.braid->segments)
      for (Nanoseconds& cost : segment.costs) cost = share_of(cost, chunks);
  }
  return settings;
}

/// The cap in stage activations, for the schedules that are made for one; 0: none.
int stage_activations(const MemoryCap& cap, const CostModel& costs, int chunks) {
  double most = 0;
  if (cap.activations) most = *cap.activations * chunks;
  if (cap.bytes && !costs.activation_bytes.empty() && costs.activation_bytes.front() > 0) {
    const auto first = [](const std::vector<Bytes>& bytes) {
      return bytes.empty() ? 0 : bytes.front();
    };
    const Bytes constant =
        (first(costs.parameter_bytes) + first(costs.gradient_bytes)) * std::int64_t{chunks} +
        first(costs.recomputed_bytes);  // of one stage at a time
    most = static_cast<double>(*cap.bytes - constant) /
           static_cast<double>(costs.activation_bytes.front());
  }
  return static_cast<int>(std::clamp(most, 0.0, 1e9));
}

/// Peak in activations of a rank's whole share.
double peak_activations(const Price& price) {
  std::int64_t worst = 0;
  for (const RankPrediction& rank : price.prediction.ranks)
    worst = std::max(worst, rank.peak_activations.amount);
  return static_cast<double>(worst) / price.chunks;
}

std::string over_cap(const Price& price, const MemoryCap& cap) {
  if (cap.activations && peak_activations(price) > *cap.activations) {
    return fmt::format("holds {} activations, {} fit", peak_activations(price), *cap.activations);
  }
  if (cap.bytes && price.worst_peak() > *cap.bytes)
    return fmt::format("holds {} bytes, {} fit", price.worst_peak(), *cap.bytes);
  return {};
}

/// The schedule as it stands, or as lowered in every way that is asked for.
Expected<PricedLowerings> prices_of(Schedule schedule, const CostModel& costs,
                                    const CompareArguments& arguments,
                                    const ResidencyQuestion& question) {
  if (arguments.lowering->lower) return price_lowerings(schedule, costs, question);
  PricedLowerings only{std::vector<PricedLowering>(1), ""};
  PLAIT_TRY(only.priced.front().price, price(std::move(schedule), costs, {}));
  return only;
}

/// "--max-active-stages 2 --unshard-lookahead auto"
std::string flags_of(const PricedLowering& one) {
  return fmt::format("--max-active-stages {} --unshard-lookahead {}", one.options.max_active_stages,
                     one.options.unshard_lookahead);
}

/// The best that fits, if any. The best of those that do not is kept if it beats what was kept.
std::optional<PricedLowering> choose(std::vector<PricedLowering> priced, const MemoryCap& cap,
                                     const GeneratorInfo& info, Comparison& comparison) {
  comparison.tried += priced.size();
  std::optional<PricedLowering> best;
  const PricedLowering* least = nullptr;  // of those that hold too much
  for (PricedLowering& one : priced) {
    if (over_cap(one.price, cap).empty()) {
      if (!best || is_better(one, *best)) best = std::move(one);
      continue;
    }
    if (least == nullptr || one.price.worst_peak() < least->price.worst_peak()) least = &one;
    if (!comparison.over_cap || is_better(one, *comparison.over_cap)) comparison.over_cap = one;
  }
  if (!best && least != nullptr) {
    std::string why = over_cap(least->price, cap);
    if (comparison.searches()) why += "; no lowering holds less than " + flags_of(*least);
    comparison.left_out.push_back({info.name, std::move(why)});
  }
  return best;
}

/// Errors: wrong costs. A schedule that this shape does not have is left out, with why.
Expected<void> add(const GeneratorInfo& info, const CompareArguments& arguments,
                   const CostSettings& given, const MemoryCap& cap, Comparison& comparison) {
  const int chunks = arguments.chunks == 0 || info.chunks == Chunks::kFixed ? info.default_chunks
                                                                            : arguments.chunks;
  PLAIT_TRY(const CostSettings settings, split_over(given, chunks));
  PLAIT_TRY(const CostModel costs, make_cost_model(settings, arguments.ranks * chunks));
  if (cap.bytes && !costs.has_bytes()) {
    return fail(ErrorCode::kInvalidInput, "a cap in bytes needs costs in bytes, found none",
                "--memory");
  }
  ScheduleShape shape;
  shape.ranks = arguments.ranks;
  shape.microbatches = arguments.microbatches;
  shape.chunks = chunks;
  shape.any_m = arguments.any_m;
  shape.costs = costs.actions;
  shape.activations = stage_activations(cap, costs, chunks);
  Expected<Schedule> schedule = info.generate(shape);
  if (!schedule) {
    std::string why = schedule.error().text();
    const std::string prefix = fmt::format("{}: ", info.name);
    if (why.starts_with(prefix)) why.erase(0, prefix.size());
    comparison.left_out.push_back({info.name, std::move(why)});
    return {};
  }
  if (schedule->forward_only) {
    comparison.left_out.push_back({info.name, "has no backward"});
    return {};
  }
  BoundInput bounded = bound_input(*schedule, costs);
  PLAIT_TRY(PricedLowerings lowerings,
            prices_of(*std::move(schedule), costs, arguments, comparison.question));
  if (lowerings.priced.empty()) {
    comparison.left_out.push_back({info.name, std::move(lowerings.why_not)});
    return {};
  }
  std::optional<PricedLowering> best = choose(std::move(lowerings.priced), cap, info, comparison);
  if (!best) return {};
  if (cap.activations) {
    bounded.activations.assign(static_cast<std::size_t>(arguments.ranks), shape.activations);
    PLAIT_TRY(best->price.bound, best_bound(bounded));
  }
  if (arguments.exact_bound) {
    PLAIT_TRY(const BoundProblem problem, BoundProblem::make(bounded));
    best->price.bound = one_rank_relaxation(problem).bound;
  }
  arguments.lowering->print_notes(best->price.schedule, best->notes);
  comparison.fit.push_back(*std::move(best));
  return {};
}

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
  PLAIT_TRY(const MemoryCap cap, parse_memory(arguments.memory));
  Comparison comparison;
  PLAIT_TRY(comparison.question, arguments.lowering->question());
  for (const GeneratorInfo& info : kGenerators)
    PLAIT_TRY_VOID(add(info, arguments, settings, cap, comparison));
  std::stable_sort(comparison.fit.begin(), comparison.fit.end(),
                   [&](const PricedLowering& a, const PricedLowering& b) {
                     if (comparison.searches()) return is_better(a, b);
                     return a.price.prediction.makespan_ns < b.price.prediction.makespan_ns;
                   });
  if (arguments.json) {
    print_json(comparison);
  } else {
    print_table(comparison, cap);
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
