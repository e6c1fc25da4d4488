#include "tools/plait/cost_arguments.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "tools/plait/commands.h"

namespace plait::tools {
namespace {

std::string flag_name(std::string_view key) {
  std::string name(key);
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

/// "f_ns" as "--f,--f-ns", "activation_bytes" as "--activation-bytes".
std::string flag_of(std::string_view key) {
  const std::string name = flag_name(key);
  const bool is_short = name.size() == 4 && name.ends_with("-ns");
  return is_short ? fmt::format("--{},--{}", name[0], name) : "--" + name;
}

template <typename Number>
void lay_over(const std::optional<Number>& flag, std::optional<Number>& setting) {
  if (flag) setting = flag;
}

}  // namespace

std::shared_ptr<CostArguments> CostArguments::add_to(CLI::App& command) {
  auto arguments = std::make_shared<CostArguments>();
  command.add_option("--costs", arguments->file,
                     "a TOML file of costs (docs/simulate.md), or a run's folder");
  for (const StageKeyInfo& info : kStageKeys) {
    command.add_option(flag_of(info.name), arguments->stage[static_cast<std::size_t>(info.key)],
                       fmt::format("of a stage: {}", info.meaning));
  }
  const auto add = [&](const char* name, std::optional<std::int64_t>& into, const char* meaning) {
    command.add_option(name, into, meaning)
        ->check(CLI::Range(std::int64_t{0}, std::numeric_limits<std::int64_t>::max()));
  };
  add("--comm,--comm-ns", arguments->comm, "ns per hop between ranks, without links");
  add("--latency-ns", arguments->latency, "of a link between ranks");
  add("--bandwidth-bytes-per-s", arguments->bandwidth, "of a link between ranks");
  add("--message-bytes", arguments->message_bytes, "of a message between stages");
  command
      .add_option("--replicas", arguments->replicas,
                  "that share parameters and gradients: UNSHARD and REDUCE_GRAD move bytes")
      ->check(CLI::Range(1, std::numeric_limits<int>::max()));
  add("--collective-latency-ns", arguments->collective_latency, "of a rank's link to its replicas");
  add("--collective-bandwidth-bytes-per-s", arguments->collective_bandwidth,
      "of a rank's link to its replicas");
  command
      .add_option("--pairs", arguments->pairs,
                  "how pairs run: sequence (default), block, or braid (needs a file's segments)")
      ->check(CLI::IsMember({"sequence", "block", "braid"}));
  add("--pair-ns", arguments->pair, "of a pair as a block");
  command
      .add_option("--pair-share", arguments->share,
                  "of a pair as a block: the share of its members' costs")
      ->check(CLI::Range(0.0, 1000.0));
  return arguments;
}

Expected<CostSettings> CostArguments::settings() const {
  CostSettings settings;
  if (!file.empty()) {
    PLAIT_TRY(settings, read_cost_file(file));
  }
  for (const StageKeyInfo& info : kStageKeys) {
    const std::string& text = stage[static_cast<std::size_t>(info.key)];
    if (text.empty()) continue;
    PLAIT_TRY(settings.of(info.key), parse_stage_cost(text, "--" + flag_name(info.name)));
  }
  lay_over(comm, settings.comm);
  lay_over(latency, settings.latency);
  lay_over(bandwidth, settings.bandwidth);
  lay_over(message_bytes, settings.message_bytes);
  lay_over(replicas, settings.replicas);
  lay_over(collective_latency, settings.collective_latency);
  lay_over(collective_bandwidth, settings.collective_bandwidth);
  if ((pair || share) && !pairs.empty() && pairs != "block") {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("a pair's cost as a block does not apply beside --pairs {}", pairs),
                pair ? "--pair-ns" : "--pair-share");
  }
  if (pair || share) {
    settings.pair = pair;
    settings.share = share;
    settings.pricing = PairPricing::kBlock;
  }
  if (pairs == "sequence") settings.pricing = PairPricing::kSequence;
  if (pairs == "block") settings.pricing = PairPricing::kBlock;
  if (pairs == "braid") settings.pricing = PairPricing::kBraid;
  return settings;
}

bool CostArguments::is_given() const {
  const bool stages = std::any_of(stage.begin(), stage.end(),
                                  [](const std::string& text) { return !text.empty(); });
  return stages || !file.empty() || !pairs.empty() || comm || latency || bandwidth ||
         message_bytes || replicas || collective_latency || collective_bandwidth || pair || share;
}

nlohmann::ordered_json print_price_json(const Price& price) {
  using Json = nlohmann::ordered_json;
  const Prediction& prediction = price.prediction;
  Json idle = Json::array();
  Json share = Json::array();
  Json peak = Json::array();
  Json exposed = Json::array();
  for (const RankPrediction& rank : prediction.ranks) {
    idle.push_back(rank.idle_ns);
    share.push_back(prediction.makespan_ns == 0 ? 0.0
                                                : static_cast<double>(rank.idle_ns) /
                                                      static_cast<double>(prediction.makespan_ns));
    peak.push_back((price.has_bytes ? rank.peak_bytes : rank.peak_activations).amount);
    exposed.push_back(rank.exposed_comm_ns);
  }
  return {{"schedule", price.schedule},
          {"ranks", price.ranks},
          {"microbatches", price.microbatches},
          {"chunks", price.chunks},
          {"makespan_ns", prediction.makespan_ns},
          {"span_ns", prediction.span_ns},
          {"bound_ns", price.bound.makespan},
          {"bound", price.bound.name},
          {"idle_ns", std::move(idle)},
          {"idle_share", std::move(share)},
          {price.has_bytes ? "peak_bytes" : "peak_activations", std::move(peak)},
          {"activation_slots", price.activation_slots},
          {"pair_coverage", prediction.pair_coverage},
          {"exposed_comm_ns", std::move(exposed)}};
}

TimeUnit TimeUnit::for_times_of(Nanoseconds typical) {
  if (typical < 100'000) return {"ns", 1};
  if (typical < 100'000'000) return {"us", 1'000};
  if (typical < 100'000'000'000) return {"ms", 1'000'000};
  return {"s", 1'000'000'000};
}

std::string TimeUnit::print(Nanoseconds time) const {
  if (nanoseconds == 1) return fmt::format("{}", time);
  return fmt::format("{:.1f}", static_cast<double>(time) / static_cast<double>(nanoseconds));
}

}  // namespace plait::tools
