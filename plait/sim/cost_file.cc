#include "plait/sim/cost_file.h"

#include <fmt/core.h>

#include <toml++/toml.h>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>

#include "plait/base/nearest_name.h"
#include "plait/base/read_file.h"
#include "plait/base/shown_value.h"
#include "plait/braid/braid_text.h"

namespace plait {
namespace {

using Names = std::vector<std::string_view>;

/// Reads one table: each key by what it may be, the rest are errors.
class TableReader {
 public:
  TableReader(const toml::table& table, std::string section, const std::string& path)
      : table_(table), section_(std::move(section)), path_(path) {}

  std::string where(const toml::node& node) const {
    return fmt::format("{}:{}", path_, node.source().begin.line);
  }
  std::string where() const { return where(table_); }

  const toml::node* find(std::string_view key) {
    known_.push_back(key);
    return table_.get(key);
  }

  /// An integer of 0 or more, at most `limit`.
  template <typename Integer>
  Expected<void> read(std::string_view key, std::optional<Integer>& into,
                      std::int64_t limit = std::numeric_limits<Integer>::max()) {
    const toml::node* node = find(key);
    if (node == nullptr) return {};
    const auto value = node->value_exact<std::int64_t>();
    if (value && *value > limit) return out_of_range(key, *node, limit);
    if (!value || *value < 0) return wrong(key, *node, "an integer of 0 or more");
    into = static_cast<Integer>(*value);
    return {};
  }
  Expected<void> read_share(std::string_view key, std::optional<double>& into) {
    const toml::node* node = find(key);
    if (node == nullptr) return {};
    const auto value = node->value<double>();
    if (!value || !node->is_number() || !std::isfinite(*value) || *value < 0)
      return wrong(key, *node, "a number of 0 or more");
    into = *value;
    return {};
  }
  Expected<void> read_stage_cost(std::string_view key, std::optional<StageCost>& into) {
    const toml::node* node = find(key);
    if (node == nullptr) return {};
    const toml::array* list = node->as_array();
    StageCost cost{{}, list != nullptr, where(*node)};
    const std::size_t count = list == nullptr ? 1 : list->size();
    for (std::size_t i = 0; i < count; ++i) {
      const toml::node& one = list == nullptr ? *node : *list->get(i);
      const auto value = one.value_exact<std::int64_t>();
      if (!value || *value < 0)
        return wrong(key, one, "an integer of 0 or more, or a list with one for each stage");
      cost.values.push_back(*value);
    }
    into = std::move(cost);
    return {};
  }
  Expected<std::string> text(std::string_view key) {
    const toml::node* node = find(key);
    if (node == nullptr) return missing(key);
    const auto value = node->value_exact<std::string>();
    if (!value || value->empty()) return tl::unexpected<Error>(wrong(key, *node, "text").error());
    return *value;
  }
  Expected<std::vector<std::string>> texts(std::string_view key) {
    std::vector<std::string> all;
    const toml::node* node = find(key);
    if (node == nullptr) return all;
    const toml::array* list = node->as_array();
    for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
      const auto value = list->get(i)->value_exact<std::string>();
      if (!value) list = nullptr;
      if (value) all.push_back(*value);
    }
    if (list == nullptr)
      return tl::unexpected<Error>(wrong(key, *node, "a list of segment names").error());
    return all;
  }
  /// The tables of [[section.key]].
  Expected<std::vector<const toml::table*>> tables(std::string_view key) {
    std::vector<const toml::table*> all;
    const toml::node* node = find(key);
    if (node == nullptr) return all;
    const toml::array* list = node->as_array();
    for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
      const toml::table* one = list->get(i)->as_table();
      if (one != nullptr) all.push_back(one);
    }
    if (list == nullptr || all.size() != list->size()) {
      return tl::unexpected<Error>(
          wrong(key, *node, fmt::format("tables [[{}.{}]]", section_, key)).error());
    }
    return all;
  }

  Expected<void> wrong(std::string_view key, const toml::node& node, std::string_view needed) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} is {}, needed {}", key, shown_value(node), needed), where(node));
  }
  Expected<void> out_of_range(std::string_view key, const toml::node& node, std::int64_t most) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} is {}, must be 0 to {}", key, shown_value(node), most),
                where(node));
  }
  tl::unexpected<Error> missing(std::string_view key) {
    return fail(ErrorCode::kInvalidInput, fmt::format("{} is missing in [{}]", key, section_),
                where());
  }
  /// After all keys have been read: an error for any other.
  Expected<void> finish() {
    for (const auto& [key, node] : table_) {
      if (std::find(known_.begin(), known_.end(), key.str()) != known_.end()) continue;
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("key '{}' is not known in [{}], did you mean '{}'?", key.str(),
                              section_, nearest_name(key.str(), known_)),
                  where(node));
    }
    return {};
  }

 private:
  const toml::table& table_;
  std::string section_;
  const std::string& path_;
  Names known_;
};

Expected<void> read_stage(TableReader reader, CostSettings& settings) {
  for (const StageKeyInfo& info : kStageKeys)
    PLAIT_TRY_VOID(reader.read_stage_cost(info.name, settings.of(info.key)));
  return reader.finish();
}

Expected<void> read_between(TableReader reader, CostSettings& settings) {
  CostSettings::Between between;
  std::optional<int> from;
  std::optional<int> to;
  PLAIT_TRY_VOID(reader.read("from", from));
  PLAIT_TRY_VOID(reader.read("to", to));
  PLAIT_TRY_VOID(reader.read("latency_ns", between.latency));
  PLAIT_TRY_VOID(reader.read("bandwidth_bytes_per_s", between.bandwidth));
  PLAIT_TRY_VOID(reader.finish());
  if (!from) return reader.missing("from");
  if (!to) return reader.missing("to");
  between.from = *from;
  between.to = *to;
  settings.between.push_back(between);
  return {};
}

Expected<void> read_link(const toml::table& table, const std::string& path,
                         CostSettings& settings) {
  TableReader reader(table, "link", path);
  PLAIT_TRY_VOID(reader.read("comm_ns", settings.comm));
  PLAIT_TRY_VOID(reader.read("latency_ns", settings.latency));
  PLAIT_TRY_VOID(reader.read("bandwidth_bytes_per_s", settings.bandwidth));
  PLAIT_TRY_VOID(reader.read("message_bytes", settings.message_bytes));
  PLAIT_TRY(const auto tables, reader.tables("between"));
  for (const toml::table* one : tables)
    PLAIT_TRY_VOID(read_between(TableReader(*one, "link.between", path), settings));
  return reader.finish();
}

/// A segment whose needs are still names.
struct WrittenSegment {
  LayerSegment segment;
  std::vector<std::string> needs;
  std::vector<std::string> needs_of_layer_before;
  std::string where;
};

template <typename Value, std::size_t N>
Expected<Value> one_of(TableReader& reader, std::string_view key,
                       const std::array<std::pair<std::string_view, Value>, N>& choices) {
  PLAIT_TRY(const std::string text, reader.text(key));
  std::string needed;
  for (const auto& [name, value] : choices) {
    if (name == text) return value;
    needed += fmt::format("{}\"{}\"", needed.empty() ? "" : ", ", name);
  }
  return tl::unexpected<Error>(
      reader.wrong(key, *reader.find(key), fmt::format("one of {}", needed)).error());
}

Expected<WrittenSegment> read_segment(TableReader reader, int layers) {
  WrittenSegment written;
  written.where = reader.where();
  PLAIT_TRY(const std::string name, reader.text("name"));
  const auto word = parse_word(name);
  if (!word) {
    return tl::unexpected<Error>(
        reader.wrong("name", *reader.find("name"), "a word such as attn.F, mlp.B or mlp.W")
            .error());
  }
  LayerSegment& segment = written.segment;
  segment.word = *word;
  constexpr std::array<std::pair<std::string_view, Lane>, 2> kLanes{
      {{"compute", Lane::kCompute}, {"communication", Lane::kCommunication}}};
  PLAIT_TRY(segment.lane, one_of(reader, "lane", kLanes));
  std::optional<StageCost> cost;
  PLAIT_TRY_VOID(reader.read_stage_cost("ns", cost));
  if (!cost) return reader.missing("ns");
  segment.costs = cost->values;
  if (cost->is_list && segment.costs.size() != static_cast<std::size_t>(layers)) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("ns of {} has {} entries, needed one for each of {} layers", name,
                            segment.costs.size(), layers),
                cost->where);
  }
  PLAIT_TRY(written.needs, reader.texts("needs"));
  PLAIT_TRY(written.needs_of_layer_before, reader.texts("needs_of_layer_before"));
  PLAIT_TRY_VOID(reader.finish());
  return written;
}

/// The segments that `names` name.
Expected<std::vector<int>> find_segments(const std::map<std::string, int>& index,
                                         const std::vector<std::string>& names,
                                         const WrittenSegment& reader) {
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
                            reader.segment.word.text(), name, nearest_name(name, known)),
                reader.where);
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
                  written[i].where);
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
Expected<void> read_braid_file(TableReader& reader, const std::string& path,
                               CostSettings& settings) {
  const toml::node* node = reader.find("braid");
  if (node == nullptr) return {};
  for (const std::string_view other : {"layers", "segment"}) {
    if (reader.find(other) != nullptr) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("braid and {} are both given, needed one", other),
                  reader.where(*node));
    }
  }
  PLAIT_TRY(const std::string name, reader.text("braid"));
  const std::string file = (std::filesystem::path(path).parent_path() / name).string();
  PLAIT_TRY(const std::string text, read_file(file, "braid"));
  PLAIT_TRY(settings.braid, read_braid_text(text, file));
  for (const LayerSegment& segment : settings.braid->segments) {
    if (segment.costs.empty()) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{} has no cost, needed one of each segment", segment.word.text()),
                  file);
    }
  }
  return {};
}

Expected<void> read_pair(const toml::table& table, const std::string& path,
                         CostSettings& settings) {
  TableReader reader(table, "pair", path);
  PLAIT_TRY_VOID(reader.read("ns", settings.pair));
  PLAIT_TRY_VOID(reader.read_share("share", settings.share));
  std::optional<int> layers;
  PLAIT_TRY_VOID(reader.read("layers", layers, kMostLayers));
  PLAIT_TRY(const auto tables, reader.tables("segment"));
  PLAIT_TRY_VOID(read_braid_file(reader, path, settings));
  PLAIT_TRY_VOID(reader.finish());
  if (layers && tables.empty())
    return reader.wrong("layers", *reader.find("layers"), "a [[pair.segment]] for them");
  if (layers && *layers == 0) return reader.wrong("layers", *reader.find("layers"), "1 or more");
  std::vector<WrittenSegment> written;
  for (const toml::table* one : tables) {
    PLAIT_TRY(WrittenSegment segment,
              read_segment(TableReader(*one, "pair.segment", path), layers.value_or(1)));
    written.push_back(std::move(segment));
  }
  if (written.empty()) return {};
  PLAIT_TRY(settings.braid, make_layer_braid(std::move(written), layers.value_or(1)));
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
  toml::table table;
  try {
    table = toml::parse(text, path);
  } catch (const toml::parse_error& error) {
    return fail(
        ErrorCode::kInvalidInput, std::string(error.description()),
        fmt::format("{}:{}:{}", path, error.source().begin.line, error.source().begin.column));
  }
  constexpr std::array<std::string_view, 3> kSections{"stage", "link", "pair"};
  CostSettings settings;
  for (const auto& [section, node] : table) {
    const std::string where = fmt::format("{}:{}", path, node.source().begin.line);
    if (!node.is_table()) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("'{}' stands outside of a section, needed one of [stage], [link], "
                              "[pair]",
                              section.str()),
                  where);
    }
    if (section == "stage") {
      PLAIT_TRY_VOID(read_stage(TableReader(*node.as_table(), "stage", path), settings));
    } else if (section == "link") {
      PLAIT_TRY_VOID(read_link(*node.as_table(), path, settings));
    } else if (section == "pair") {
      PLAIT_TRY_VOID(read_pair(*node.as_table(), path, settings));
    } else {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("section [{}] is not known, did you mean [{}]?", section.str(),
                              nearest_name(section.str(), kSections)),
                  where);
    }
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
  PLAIT_TRY_VOID(set_pairs(settings, costs.pairs));
  return costs;
}

}  // namespace plait
