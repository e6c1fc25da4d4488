#include "plait/sim/cost_file.h"

#include <fmt/core.h>

#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>

#include "plait/base/key_reader.h"
#include "plait/base/nearest_name.h"
#include "plait/base/read_file.h"
#include "plait/base/toml_node.h"
#include "plait/braid/braid_text.h"

namespace plait {
namespace {

using Names = std::vector<std::string_view>;

using Keys = KeyReader<TomlNode>;

/// A number for all stages, or a list.
void read_stage_cost(Keys& keys, std::string_view key, std::optional<StageCost>& into) {
  const TomlNode node = keys.find(key);
  if (!node.exists()) return;
  const auto list = node.list();
  StageCost cost{{}, list.has_value(), keys.place(node).text()};
  for (const TomlNode& one : list.value_or(std::vector{node})) {
    std::int64_t value = 0;
    if (!take(one, value, 0).empty()) {
      return keys.wrong(key, one,
                        "needed an integer of 0 or more, or a list with one for each stage");
    }
    cost.values.push_back(value);
  }
  into = std::move(cost);
}

/// Text that is not empty.
std::string require_text(Keys& keys, std::string_view key) {
  std::string text;
  if (keys.require(key, text) && text.empty()) keys.wrong(key, keys.find(key), "needed text");
  return text;
}

void read_stage(Keys keys, CostSettings& settings) {
  for (const StageKeyInfo& info : kStageKeys)
    read_stage_cost(keys, info.name, settings.of(info.key));
  keys.refuse_others();
}

void read_link(Keys keys, CostSettings& settings) {
  keys.read("comm_ns", settings.comm, 0);
  keys.read("latency_ns", settings.latency, 0);
  keys.read("bandwidth_bytes_per_s", settings.bandwidth, 0);
  keys.read("message_bytes", settings.message_bytes, 0);
  keys.each_table("between", "[link.between]", [&](Keys between) {
    CostSettings::Between& link = settings.between.emplace_back();
    between.require("from", link.from, 0);
    between.require("to", link.to, 0);
    between.read("latency_ns", link.latency, 0);
    between.read("bandwidth_bytes_per_s", link.bandwidth, 0);
    between.refuse_others();
  });
  keys.refuse_others();
}

void read_collective(Keys keys, CostSettings& settings) {
  keys.read("replicas", settings.replicas, 1);
  keys.read("latency_ns", settings.collective_latency, 0);
  keys.read("bandwidth_bytes_per_s", settings.collective_bandwidth, 0);
  keys.refuse_others();
}

/// A segment whose needs are still names.
struct WrittenSegment {
  LayerSegment segment;
  std::vector<std::string> needs;
  std::vector<std::string> needs_of_layer_before;
  ErrorPlace place;
};

WrittenSegment read_segment(Keys keys, int layers) {
  WrittenSegment written;
  written.place = keys.place(keys.table());
  LayerSegment& segment = written.segment;
  const std::string name = require_text(keys, "name");
  if (const auto word = parse_word(name)) {
    segment.word = *word;
  } else if (keys.ok()) {
    keys.wrong("name", keys.find("name"), "needed a word such as attn.F, mlp.B or mlp.W");
  }
  const std::string lane = require_text(keys, "lane");
  if (lane == "communication") {
    segment.lane = Lane::kCommunication;
  } else if (keys.ok() && lane != "compute") {
    keys.wrong("lane", keys.find("lane"), "needed one of \"compute\", \"communication\"");
  }
  std::optional<StageCost> cost;
  read_stage_cost(keys, "ns", cost);
  if (!cost && keys.ok()) keys.missing("ns");
  if (cost) segment.costs = cost->values;
  if (cost && cost->is_list && cost->values.size() != static_cast<std::size_t>(layers)) {
    keys.fail(fmt::format("ns of {} has {} entries, needed one for each of {} layers", name,
                          cost->values.size(), layers),
              keys.find("ns"));
  }
  keys.read("needs", written.needs);
  keys.read("needs_of_layer_before", written.needs_of_layer_before);
  keys.refuse_others();
  return written;
}

/// The segments that `names` name.
Expected<std::vector<int>> find_segments(const std::map<std::string, int>& index,
                                         const std::vector<std::string>& names,
                                         const WrittenSegment& written) {
  std::vector<int> found;
  for (const std::string& name : names) {
    const auto segment = index.find(name);
    if (segment != index.end()) {
      found.push_back(segment->second);
      continue;
    }
    Names known;
    for (const auto& [word, number] : index) known.push_back(word);
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} needs '{}', which is no segment, did you mean '{}'?",
                            written.segment.word.text(), name, nearest_name(name, known)),
                written.place);
  }
  return found;
}

/// The segments with their needs; each lane runs its own as they are listed.
Expected<LayerBraid> make_layer_braid(std::vector<WrittenSegment> written, int layers) {
  std::map<std::string, int> index;
  for (std::size_t i = 0; i < written.size(); ++i) {
    const std::string name = written[i].segment.word.text();
    if (!index.try_emplace(name, static_cast<int>(i)).second) {
      return fail(ErrorCode::kInvalidInput, fmt::format("two segments are called '{}'", name),
                  written[i].place);
    }
  }
  LayerBraid braid;
  braid.layers = layers;
  for (WrittenSegment& one : written) {
    PLAIT_TRY(one.segment.needs, find_segments(index, one.needs, one));
    PLAIT_TRY(one.segment.needs_of_layer_before,
              find_segments(index, one.needs_of_layer_before, one));
    braid.segments.push_back(std::move(one.segment));
  }
  braid.lanes = lanes_as_listed(braid.segments);
  return braid;
}

/// `braid = "FILE"`: a braid's text, beside the cost file.
Expected<void> read_braid_file(const std::string& name, const std::string& path,
                               CostSettings& settings) {
  const std::string file = (std::filesystem::path(path).parent_path() / name).string();
  PLAIT_TRY(const std::string text, read_file(file, "braid"));
  PLAIT_TRY(settings.braid, read_braid_text(text, file));
  for (const LayerSegment& segment : settings.braid->segments) {
    if (segment.costs.empty()) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{} has no cost, needed one of each segment", segment.word.text()),
                  ErrorPlace{.file = file});
    }
  }
  return {};
}

Expected<void> read_pair(Keys keys, const std::string& path, CostSettings& settings) {
  keys.read("ns", settings.pair, 0);
  keys.read("share", settings.share);
  // A comparison with a number is false of nan.
  if (settings.share && !(*settings.share >= 0 && std::isfinite(*settings.share)))
    keys.wrong("share", keys.find("share"), "needed a number of 0 or more");
  int layers = 1;
  const TomlNode of_layers = keys.find("layers");
  keys.read("layers", layers, 1, kMostLayers);
  const TomlNode segments = keys.find("segment");
  const TomlNode braid = keys.find("braid");
  if (braid.exists() && (of_layers.exists() || segments.exists())) {
    keys.fail(fmt::format("braid and {} are both given, needed one",
                          of_layers.exists() ? "layers" : "segment"),
              braid);
  }
  const std::string file = braid.exists() ? require_text(keys, "braid") : "";
  keys.refuse_others();
  std::vector<WrittenSegment> written;
  keys.each_table("segment", "[pair.segment]",
                  [&](Keys one) { written.push_back(read_segment(std::move(one), layers)); });
  if (of_layers.exists() && written.empty())
    keys.wrong("layers", of_layers, "needed a [[pair.segment]] for them");
  PLAIT_TRY_VOID(keys.result());
  if (braid.exists()) return read_braid_file(file, path, settings);
  if (written.empty()) return {};
  PLAIT_TRY(settings.braid, make_layer_braid(std::move(written), layers));
  return {};
}

Expected<void> check_list(const StageCost& cost, int stages, std::string_view name) {
  if (!cost.is_list || cost.values.size() == static_cast<std::size_t>(stages)) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("{} has {} entries, needed one for each of {} stages", name,
                          cost.values.size(), stages),
              cost.where);
}

std::vector<std::int64_t> for_stages(const std::optional<StageCost>& cost, int stages) {
  if (!cost) return {};
  if (cost->is_list) return cost->values;
  return std::vector<std::int64_t>(static_cast<std::size_t>(stages), cost->values.front());
}

Expected<void> set_actions(const CostSettings& settings, int stages, ActionCosts& actions) {
  const auto& forward = settings.of(StageKey::kForward);
  const auto& input = settings.of(StageKey::kBackwardInput);
  const auto& weight = settings.of(StageKey::kBackwardWeight);
  const auto& whole = settings.of(StageKey::kBackward);
  if (!forward && !input && !weight && !whole) {
    actions = unit_costs(stages);
  } else if (!forward || !input || !weight) {
    const std::string_view missing = !forward ? "f_ns" : !input ? "i_ns" : "w_ns";
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} is missing, needed f_ns, i_ns and w_ns", missing), "costs");
  } else {
    actions.forward = for_stages(forward, stages);
    actions.backward_input = for_stages(input, stages);
    actions.backward_weight = for_stages(weight, stages);
    actions.backward = for_stages(whole, stages);
  }
  if (actions.backward.empty()) {
    for (std::size_t s = 0; s < static_cast<std::size_t>(stages); ++s) {
      std::int64_t both = 0;
      if (__builtin_add_overflow(actions.backward_input[s], actions.backward_weight[s], &both))
        both = std::numeric_limits<std::int64_t>::max();  // check_cost_model() refuses it
      actions.backward.push_back(both);
    }
  }
  actions.hop = settings.comm.value_or(0);
  actions.recompute = for_stages(settings.of(StageKey::kRecompute), stages);
  return {};
}

Expected<void> set_network(const CostSettings& settings, CostModel& costs) {
  if (!settings.has_network()) return {};
  if (settings.comm) {
    return fail(ErrorCode::kInvalidInput,
                "comm is given together with latency, bandwidth or message_bytes, needed one or "
                "the other",
                "costs");
  }
  Network network;
  network.link = {settings.latency.value_or(0), settings.bandwidth.value_or(0)};
  network.message_bytes = settings.message_bytes.value_or(0);
  if (settings.bandwidth && *settings.bandwidth == 0)
    return fail(ErrorCode::kInvalidInput, "bandwidth_bytes_per_s is 0, needed 1 or more", "costs");
  for (const CostSettings::Between& between : settings.between) {
    network.between.push_back({between.from,
                               between.to,
                               {between.latency.value_or(network.link.latency),
                                between.bandwidth.value_or(network.link.bandwidth)}});
  }
  costs.network = std::move(network);
  return {};
}

Expected<void> set_collectives(const CostSettings& settings, CostModel& costs) {
  if (!settings.has_collectives()) return {};
  if (!settings.replicas) {
    return fail(ErrorCode::kInvalidInput,
                "a link of collectives is given without replicas, needed their number", "costs");
  }
  if (settings.collective_bandwidth && *settings.collective_bandwidth == 0) {
    return fail(ErrorCode::kInvalidInput,
                "bandwidth_bytes_per_s of [collective] is 0, needed 1 or more", "costs");
  }
  costs.collectives = {
      *settings.replicas,
      {settings.collective_latency.value_or(0), settings.collective_bandwidth.value_or(0)}};
  return {};
}

Expected<void> set_pairs(const CostSettings& settings, PairCosts& pairs) {
  const bool block = settings.pair || settings.share;
  if (settings.pair && settings.share) {
    return fail(ErrorCode::kInvalidInput, "a pair's ns and share are both given, needed one",
                "costs");
  }
  if (block && settings.braid && !settings.pricing) {
    return fail(ErrorCode::kInvalidInput,
                "a pair has a cost as a block and segments of a braid, needed --pairs to say which",
                "costs");
  }
  pairs.pricing = settings.pricing.value_or(block            ? PairPricing::kBlock
                                            : settings.braid ? PairPricing::kBraid
                                                             : PairPricing::kSequence);
  pairs.block = settings.pair;
  pairs.share = settings.share;
  if (pairs.pricing == PairPricing::kBraid && !settings.braid) {
    return fail(ErrorCode::kInvalidInput,
                "braided pairs need their segments: a --costs file with [pair] braid or "
                "[[pair.segment]]",
                "costs");
  }
  if (settings.braid) {
    PLAIT_TRY(Braid braid, lay_out(*settings.braid));
    PLAIT_TRY(pairs.braid, PreparedBraid::make(std::move(braid)));
  }
  return {};
}

}  // namespace

Expected<CostSettings> parse_cost_file(const std::string& text, const std::string& path) {
  PLAIT_TRY(const toml::table document, parse_toml(text, path));
  constexpr std::array<std::string_view, 4> kSections{"stage", "link", "collective", "pair"};
  CostSettings settings;
  const TomlNode sections(document);
  for (const std::string_view section : sections.keys()) {
    const TomlNode table = sections.find(section);
    if (!table.is_table()) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("'{}' stands outside of a section, needed one of [stage], [link], "
                              "[collective], [pair]",
                              section),
                  table.place({.file = path}));
    }
    FirstError error;
    Keys keys(table, path, error, fmt::format("[{}]", section));
    if (section == "stage") {
      read_stage(std::move(keys), settings);
    } else if (section == "link") {
      read_link(std::move(keys), settings);
    } else if (section == "collective") {
      read_collective(std::move(keys), settings);
    } else if (section == "pair") {
      PLAIT_TRY_VOID(read_pair(std::move(keys), path, settings));
    } else {
      keys.fail(fmt::format("section [{}] is not known, did you mean [{}]?", section,
                            nearest_name(section, kSections)),
                table);
    }
    PLAIT_TRY_VOID(error.result());
  }
  return settings;
}

Expected<CostSettings> read_cost_file(const std::string& path) {
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(path, ignored);
  const std::string file = folder ? path + "/" + kRunCosts : path;
  PLAIT_TRY(const std::string text, read_file(file, "cost"));
  return parse_cost_file(text, file);
}

Expected<StageCost> parse_stage_cost(const std::string& text, const std::string& flag) {
  StageCost cost{{}, text.find(',') != std::string::npos, flag};
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    std::int64_t value = 0;
    const auto [stop, error] = std::from_chars(at, end, value);
    if (error == std::errc::result_out_of_range) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("'{}' holds {}, must be 0 to {}", text, std::string_view(at, stop),
                              std::numeric_limits<std::int64_t>::max()),
                  flag);
    }
    if (error != std::errc() || value < 0 || (stop != end && *stop != ',')) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("found '{}', needed an integer of 0 or more, or a list such as "
                              "10,12,11",
                              text),
                  flag);
    }
    cost.values.push_back(value);
    if (stop == end) return cost;
    at = stop + 1;
  }
}

Expected<CostModel> make_cost_model(const CostSettings& settings, int stages) {
  for (const StageKeyInfo& info : kStageKeys) {
    if (settings.of(info.key))
      PLAIT_TRY_VOID(check_list(*settings.of(info.key), stages, info.name));
  }
  CostModel costs;
  PLAIT_TRY_VOID(set_actions(settings, stages, costs.actions));
  costs.activation_bytes = for_stages(settings.of(StageKey::kActivationBytes), stages);
  costs.recomputed_bytes = for_stages(settings.of(StageKey::kRecomputedBytes), stages);
  costs.between_i_and_w_bytes = for_stages(settings.of(StageKey::kBetweenBytes), stages);
  for (std::size_t type = 0; type < kScratchKeys.size(); ++type)
    costs.scratch_bytes[type] = for_stages(settings.of(kScratchKeys[type]), stages);
  costs.parameter_bytes = for_stages(settings.of(StageKey::kParameterBytes), stages);
  costs.gradient_bytes = for_stages(settings.of(StageKey::kGradientBytes), stages);
  costs.unshard = for_stages(settings.of(StageKey::kUnshard), stages);
  costs.reshard = for_stages(settings.of(StageKey::kReshard), stages);
  costs.reduce_grad = for_stages(settings.of(StageKey::kReduceGrad), stages);
  PLAIT_TRY_VOID(set_network(settings, costs));
  PLAIT_TRY_VOID(set_collectives(settings, costs));
  PLAIT_TRY_VOID(set_pairs(settings, costs.pairs));
  return costs;
}

}  // namespace plait
