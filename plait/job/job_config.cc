#include "plait/job/job_config.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <type_traits>

#include "plait/base/key_reader.h"
#include "plait/base/nearest_name.h"
#include "plait/base/read_file.h"
#include "plait/base/toml_node.h"
#include "plait/job/validate.h"

namespace plait {
namespace {

std::vector<std::string_view> section_names() {
  std::vector<std::string_view> names;
  for (const KeyInfo& key : job_keys()) {
    if (names.empty() || names.back() != key.section) names.push_back(key.section);
  }
  return names;
}

std::string take(const TomlNode& node, std::pair<double, double>& field) {
  std::vector<double> numbers;
  if (!take(node, numbers).empty() || numbers.size() != 2)
    return "needed two numbers, as in [0.9, 0.95]";
  field = {numbers[0], numbers[1]};
  return {};
}

std::string take(const TomlNode& node, RopeScaling& field) {
  RopeScaling scaling;
  FirstError error;
  KeyReader keys(node, "", error);
  if (node.is_table()) {
    keys.read("rope_type", scaling.rope_type);
    keys.read("factor", scaling.factor);
    keys.read("low_freq_factor", scaling.low_freq_factor);
    keys.read("high_freq_factor", scaling.high_freq_factor);
    keys.read("original_max_position_embeddings", scaling.original_max_position_embeddings);
    keys.refuse_others();
  }
  if (!node.is_table() || !error.ok()) {
    return "needed a table, as in { rope_type = \"llama3\", factor = 8.0, low_freq_factor = 1.0, "
           "high_freq_factor = 4.0, original_max_position_embeddings = 8192 }";
  }
  field = scaling;
  return {};
}

/// "12" of 12, and of an integer that is too long for TOML and was given without quotes.
std::optional<std::string> digits_of(const TomlNode& node) {
  if (node.integer()) return node.shown();
  std::optional<std::string> text = node.text();
  if (!text || text->empty()) return {};
  const std::string_view digits = std::string_view(*text).substr(text->find_first_of("+-") == 0);
  if (digits.empty() || digits.find_first_not_of("0123456789_") != std::string_view::npos)
    return {};
  return text;
}

/// "must be 1 to 2147483647" for a key of one integer, "" for others.
std::string range_of(const KeyInfo& key, const FieldPointer& field) {
  return std::visit(
      [&](const auto* value) -> std::string {
        using Field = std::remove_cvref_t<decltype(*value)>;
        if constexpr (IntegerField<Field>)
          return fmt::format("must be {} to {}", least_value(key), kGreatest<Field>);
        return {};
      },
      field);
}

using Keys = KeyReader<TomlNode>;
void read_key(Keys& keys, const KeyInfo& key, JobConfig& job) {
  const TomlNode node = keys.find(key.name);
  if (!node.exists()) return;
  const FieldPointer field = key.field(job);
  const std::string demand = std::visit([&](auto* value) { return take(node, *value); }, field);
  if (demand.empty()) return;
  const std::string range = range_of(key, field);
  const std::optional<std::string> digits = range.empty() ? std::nullopt : digits_of(node);
  if (!digits) return keys.wrong(key.name, node, demand);
  keys.fail(fmt::format("{}.{} is {}, {}", key.section, key.name, *digits, range), node);
}

/// What may be meant by an unknown key: the same key of another section, else the nearest.
std::string suggestion(std::string_view name, const std::vector<std::string_view>& names) {
  for (const KeyInfo& key : job_keys()) {
    if (key.name == name) return fmt::format("'{}' in [{}]", name, key.section);
  }
  return fmt::format("'{}'", nearest_name(name, names));
}

Expected<void> read_section(JobConfig& job, std::string_view section, const TomlNode& table,
                            const std::string& file) {
  FirstError error;
  Keys keys(table, file, error, fmt::format("[{}]", section));
  std::vector<std::string_view> names;
  for (const KeyInfo& key : job_keys()) {
    if (key.section != section) continue;
    names.push_back(key.name);
    read_key(keys, key, job);
  }
  if (names.empty()) {
    keys.fail(fmt::format("section [{}] is not known, did you mean [{}]?", section,
                          nearest_name(section, section_names())),
              table);
  }
  for (const std::string_view key : table.keys()) {
    if (std::find(names.begin(), names.end(), key) == names.end())
      keys.refuse(key, suggestion(key, names));
  }
  return error.result();
}

Expected<void> apply_text(JobConfig& job, const std::string& text, const std::string& path) {
  PLAIT_TRY(const toml::table document, parse_toml(text, path));
  const TomlNode sections(document);
  for (const std::string_view section : sections.keys()) {
    const TomlNode table = sections.find(section);
    if (!table.is_table()) {
      return fail(
          ErrorCode::kInvalidInput,
          fmt::format("'{}' stands outside of a section, needed one such as [run]", section),
          table.place({.file = path}));
    }
    PLAIT_TRY_VOID(read_section(job, section, table, path));
    for (const std::string_view key : table.keys())
      job.origins.by_key[fmt::format("{}.{}", section, key)] =
          table.find(key).place({.file = path}).text();
  }
  return {};
}

bool holds_text(std::string_view section, std::string_view name) {
  JobConfig job;
  const std::span<const KeyInfo> keys = job_keys();
  return std::any_of(keys.begin(), keys.end(), [&](const KeyInfo& key) {
    return key.section == section && key.name == name &&
           std::holds_alternative<std::string*>(key.field(job));
  });
}

/// A value as TOML; as it stands if it is none, or if text without quotes is given for a key that
/// holds text (a folder may be called 2024, or true).
Expected<void> apply_override(JobConfig& job, const Override& override) {
  const std::size_t dot = override.key.find('.');
  if (dot == std::string::npos) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("'{}' names no section, needed section.key=value", override.key),
                override.flag);
  }
  const std::string section = override.key.substr(0, dot);
  const std::string name = override.key.substr(dot + 1);
  const bool text = holds_text(section, name);
  Expected<toml::table> parsed = parse_toml("value = " + override.value + "\n", override.flag);
  const bool is_value = parsed && parsed->size() == 1 && parsed->contains("value");
  if (!is_value || (text && !parsed->get("value")->is_string())) {
    parsed = parse_toml("value = " + quote_toml(override.value) + "\n", override.flag);
    if (!parsed) {
      return fail(ErrorCode::kInvalidInput, fmt::format("{} is not UTF-8 text", name),
                  override.flag);
    }
  }
  toml::table table;
  table.insert(name, *parsed->get("value"));
  if (Expected<void> read = read_section(job, section, TomlNode(table), ""); !read) {
    read.error().where = override.flag;
    read.error().place = {.key = override.key};
    return read;
  }
  job.origins.by_key[override.key] = override.flag;
  return {};
}

/// Why a flag for this key would be dropped; empty: it is not.
std::string why_unused(const JobConfig& job, std::string_view key) {
  // `init` itself, and what says how to train, which no model's file does.
  constexpr std::array<std::string_view, 4> kBesideInit{"model.init", "model.hidden_dropout",
                                                        "model.router_aux_loss_coef",
                                                        "model.bias_update_speed"};
  const bool beside_init =
      std::find(kBesideInit.begin(), kBesideInit.end(), key) != kBesideInit.end();
  if (key.starts_with("model.") && !beside_init && !job.model.init.empty())
    return fmt::format("model.init is {}, whose files say it", job.model.init);
  if (key == "data.validation_share" && !job.data.validation.empty())
    return fmt::format("data.validation is {}", job.data.validation);
  if (key == "parallel.braid" && job.parallel.pairs != "braid")
    return fmt::format("parallel.pairs is {}", job.parallel.pairs);
  if (key.starts_with("checkpoint.keep_") && job.checkpoint.every == 0)
    return "checkpoint.every is 0";
  if (key == "parallel.shard" && job.parallel.shard != "none" &&
      job.parallel.data * job.parallel.expert == 1)
    return "parallel.data and parallel.expert are 1: there are no replicas";
  if ((key == "parallel.max_active_stages" || key == "parallel.unshard_lookahead") &&
      job.parallel.shard == "none")
    return "parallel.shard is none: replicas share out nothing";
  if (key == "parallel.token_bound" && job.parallel.expert == 1) return "parallel.expert is 1";
  return {};
}

/// In a file such keys may stand: the file that a run resolved has all of them.
Expected<void> check_unused(const JobConfig& job, const std::vector<Override>& overrides) {
  for (const Override& given : overrides) {
    const std::string why = why_unused(job, given.key);
    if (why.empty()) continue;
    return fail(ErrorCode::kInvalidInput, fmt::format("{} does not apply: {}", given.key, why),
                given.flag);
  }
  return {};
}

}  // namespace

Expected<JobConfig> read_job_config(const std::string& path,
                                    const std::vector<Override>& overrides) {
  PLAIT_TRY(const std::string text, read_file(path, "job"));
  return parse_job_config(text, path, overrides);
}

Expected<JobConfig> parse_job_config(const std::string& text, const std::string& path,
                                     const std::vector<Override>& overrides) {
  JobConfig job;
  job.name = path == kStandardInput ? "stdin" : std::filesystem::path(path).stem().string();
  PLAIT_TRY_VOID(apply_text(job, text, path));
  for (const Override& override : overrides) PLAIT_TRY_VOID(apply_override(job, override));
  PLAIT_TRY_VOID(check_unused(job, overrides));
  if (Expected<void> valid = validate_job(job); !valid) {
    Error error = std::move(valid).error();
    const auto origin = job.origins.by_key.find(error.where);
    error.where = origin != job.origins.by_key.end() ? origin->second : path;
    return tl::unexpected<Error>(std::move(error));
  }
  return job;
}

}  // namespace plait
