#include "plait/compare/compare.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>
#include <string_view>
#include <utility>

#include "plait/schedule/generators.h"

namespace plait {
namespace {

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
                                    const std::optional<ResidencyQuestion>& lowerings) {
  if (lowerings) return price_lowerings(schedule, costs, *lowerings);
  PricedLowerings only{std::vector<PricedLowering>(1), ""};
  PLAIT_TRY(only.priced.front().price, price(std::move(schedule), costs, {}));
  return only;
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
    comparison.left_out.push_back({std::string(info.name), std::move(why)});
  }
  return best;
}

/// Errors: wrong costs. A schedule that this shape does not have is left out, with why.
Expected<void> add(const GeneratorInfo& info, const CompareQuestion& question,
                   const CostSettings& given, Comparison& comparison) {
  const int chunks =
      question.chunks == 0 || info.chunks == Chunks::kFixed ? info.default_chunks : question.chunks;
  PLAIT_TRY(const CostSettings settings, split_over(given, chunks));
  PLAIT_TRY(const CostModel costs, make_cost_model(settings, question.ranks * chunks));
  if (question.cap.bytes && !costs.has_bytes()) {
    return fail(ErrorCode::kInvalidInput, "a cap in bytes needs costs in bytes, found none",
                question.cap_name);
  }
  ScheduleShape shape;
  shape.ranks = question.ranks;
  shape.microbatches = question.microbatches;
  shape.chunks = chunks;
  shape.any_m = question.any_m;
  shape.costs = costs.actions;
  shape.activations = stage_activations(question.cap, costs, chunks);
  Expected<Schedule> schedule = info.generate(shape);
  if (!schedule) {
    std::string why = schedule.error().text();
    const std::string prefix = fmt::format("{}: ", info.name);
    if (why.starts_with(prefix)) why.erase(0, prefix.size());
    comparison.left_out.push_back({std::string(info.name), std::move(why)});
    return {};
  }
  if (schedule->forward_only) {
    comparison.left_out.push_back({std::string(info.name), "has no backward"});
    return {};
  }
  BoundInput bounded = bound_input(*schedule, costs);
  PLAIT_TRY(PricedLowerings lowerings, prices_of(*std::move(schedule), costs, question.lowerings));
  if (lowerings.priced.empty()) {
    comparison.left_out.push_back({std::string(info.name), std::move(lowerings.why_not)});
    return {};
  }
  std::optional<PricedLowering> best =
      choose(std::move(lowerings.priced), question.cap, info, comparison);
  if (!best) return {};
  if (question.cap.activations) {
    bounded.activations.assign(static_cast<std::size_t>(question.ranks), shape.activations);
    PLAIT_TRY(best->price.bound, best_bound(bounded));
  }
  if (question.exact_bound) {
    PLAIT_TRY(const BoundProblem problem, BoundProblem::make(bounded));
    best->price.bound = one_rank_relaxation(problem).bound;
  }
  comparison.fit.push_back(*std::move(best));
  return {};
}

}  // namespace

Expected<MemoryCap> parse_memory(const std::string& text, const std::string& where) {
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
                where);
  }
  if (unit.empty()) {
    cap.activations = number;
  } else {
    cap.bytes = static_cast<Bytes>(number * found->second);
  }
  return cap;
}

const PricedLowering* Comparison::kept_out_by_cap() const {
  if (!over_cap || (!fit.empty() && over_cap->price.prediction.makespan_ns >=
                                        fit.front().price.prediction.makespan_ns))
    return nullptr;
  return &*over_cap;
}

double peak_activations(const Price& price) {
  std::int64_t worst = 0;
  for (const RankPrediction& rank : price.prediction.ranks)
    worst = std::max(worst, rank.peak_activations.amount);
  return static_cast<double>(worst) / price.chunks;
}

std::string flags_of(const PricedLowering& lowering) {
  return fmt::format("--max-active-stages {} --unshard-lookahead {}",
                     lowering.options.max_active_stages, lowering.options.unshard_lookahead);
}

Expected<Comparison> compare_schedules(const CompareQuestion& question, const CostSettings& costs) {
  Comparison comparison;
  comparison.question = question.lowerings.value_or(ResidencyQuestion());
  for (const GeneratorInfo& info : kGenerators)
    PLAIT_TRY_VOID(add(info, question, costs, comparison));
  std::stable_sort(comparison.fit.begin(), comparison.fit.end(),
                   [&](const PricedLowering& a, const PricedLowering& b) {
                     if (comparison.searches()) return is_better(a, b);
                     return a.price.prediction.makespan_ns < b.price.prediction.makespan_ns;
                   });
  return comparison;
}

}  // namespace plait
