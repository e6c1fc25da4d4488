#include "plait/job/job_config.h"

#include <fmt/core.h>

#include <toml++/toml.h>
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>

#include "plait/base/nearest_name.h"
#include "plait/base/read_file.h"
#include "plait/base/shown_value.h"
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

/// Stores a TOML value into a field; the name of the needed type if it is of another.
struct Store {
  const toml::node& node;

  std::string operator()(std::string* field) const {
    return take(node.value_exact<std::string>(), field, "a string");
  }
  std::string operator()(bool* field) const {
    return take(node.value_exact<bool>(), field, "true or false");
  }
  std::string operator()(double* field) const {
    return take(node.value<double>(), field, "a number");
  }
  std::string operator()(std::int64_t* field) const {
    return take(node.value_exact<std::int64_t>(), field, "an integer");
  }
  std::string operator()(int* field) const { return narrow(field); }
  std::string operator()(std::uint64_t* field) const {
    const auto value = node.value_exact<std::int64_t>();
    if (!value || *value < 0) return "an integer of 0 or more";
    *field = static_cast<std::uint64_t>(*value);
    return {};
  }
  std::string operator()(std::pair<double, double>* field) const {
    const toml::array* list = node.as_array();
    if (list == nullptr || list->size() != 2 || !list->get(0)->is_number() ||
        !list->get(1)->is_number()) {
      return "two numbers, as in [0.9, 0.95]";
    }
    *field = {list->get(0)->value_or(0.0), list->get(1)->value_or(0.0)};
    return {};
  }
  std::string operator()(RopeScaling* field) const {
    constexpr const char* kNeeded =
        "a table, as in { rope_type = \"llama3\", factor = 8.0, low_freq_factor = 1.0, "
        "high_freq_factor = 4.0, original_max_position_embeddings = 8192 }";
    const toml::table* table = node.as_table();
    if (table == nullptr) return kNeeded;
    RopeScaling scaling;
    for (const auto& [key, value] : *table) {
      const Store store{value};
      std::string wrong = kNeeded;
      if (key == "rope_type") wrong = store(&scaling.rope_type);
      if (key == "factor") wrong = store(&scaling.factor);
      if (key == "low_freq_factor") wrong = store(&scaling.low_freq_factor);
      if (key == "high_freq_factor") wrong = store(&scaling.high_freq_factor);
      if (key == "original_max_position_embeddings")
        wrong = store(&scaling.original_max_position_embeddings);
      if (!wrong.empty()) return kNeeded;
    }
    *field = scaling;
    return {};
  }
  std::string operator()(std::vector<int>* field) const {
    const toml::array* list = node.as_array();
    if (list == nullptr) return "a list of integers";
    field->clear();
    for (const toml::node& one : *list) {
      int value = 0;
      if (!Store{one}.narrow(&value).empty()) return "a list of integers";
      field->push_back(value);
    }
    return {};
  }

 private:
  template <typename T>
  static std::string take(const std::optional<T>& value, T* field, const char* needed) {
    if (!value) return needed;
    *field = *value;
    return {};
  }
  std::string narrow(int* field) const {
    const auto value = node.value_exact<std::int64_t>();
    if (!value || *value > std::numeric_limits<int>::max() ||
        *value < std::numeric_limits<int>::min())
      return "an integer";
    *field = static_cast<int>(*value);
    return {};
  }
};

/// True of 12, and of what is an integer but none that TOML can hold.
bool is_integer(const toml::node& node) {
  if (node.is_integer()) return true;
  const auto text = node.value_exact<std::string>();
  if (!text || text->empty()) return false;
  const std::string_view digits = std::string_view(*text).substr(text->find_first_of("+-") == 0);
  return !digits.empty() && digits.find_first_not_of("0123456789_") == std::string_view::npos;
}

/// "must be 1 to 2147483647" for a key of one integer, "" for others.
std::string range_of(const KeyInfo& key, const FieldPointer& field) {
  std::int64_t most = std::numeric_limits<std::int64_t>::max();
  if (std::holds_alternative<int*>(field)) {
    most = std::numeric_limits<int>::max();
  } else if (!std::holds_alternative<std::int64_t*>(field) &&
             !std::holds_alternative<std::uint64_t*>(field)) {
    return {};
  }
  return fmt::format("must be {} to {}", least_value(key), most);
}

/// The same key of another section, else the nearest of this one.
std::string suggestion(std::string_view name, const std::vector<std::string_view>& names) {
  for (const KeyInfo& key : job_keys()) {
    if (key.name == name) return fmt::format("'{}' in [{}]", name, key.section);
  }
  return fmt::format("'{}'", nearest_name(name, names));
}

Expected<void> set_key(JobConfig& job, std::string_view section, std::string_view name,
                       const toml::node& value, const std::string& where) {
  std::vector<std::string_view> names;
  for (const KeyInfo& key : job_keys()) {
    if (key.section != section) continue;
    names.push_back(key.name);
    if (key.name != name) continue;
    const FieldPointer field = key.field(job);
    const std::string needed = std::visit(Store{value}, field);
    if (needed.empty()) return {};
    if (const std::string range = range_of(key, field); !range.empty() && is_integer(value)) {
      const auto digits = value.value_exact<std::string>();  // what is too long for TOML
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{}.{} is {}, {}", section, name,
                              digits ? *digits : shown_value(value), range),
                  where);
    }
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} is {}, needed {}", name, shown_value(value), needed), where);
  }
  if (names.empty()) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("section [{}] is not known, did you mean [{}]?", section,
                            nearest_name(section, section_names())),
                where);
  }
  return fail(ErrorCode::kInvalidInput,
              fmt::format("key '{}' is not known in [{}], did you mean {}?", name, section,
                          suggestion(name, names)),
              where);
}

using Origins = std::map<std::string, std::string>;

Expected<toml::table> parse_toml(const std::string& text, const std::string& name) {
  try {
    return toml::parse(text, name);
  } catch (const toml::parse_error& error) {
    return fail(
        ErrorCode::kInvalidInput, std::string(error.description()),
        fmt::format("{}:{}:{}", name, error.source().begin.line, error.source().begin.column));
  }
}

Expected<void> apply_text(JobConfig& job, const std::string& text, const std::string& path,
                          Origins& origins) {
  PLAIT_TRY(const toml::table table, parse_toml(text, path));
  for (const auto& [section, node] : table) {
    const auto line_of = [&](const toml::node& at) {
      return fmt::format("{}:{}", path, at.source().begin.line);
    };
    if (!node.is_table()) {
      return fail(
          ErrorCode::kInvalidInput,
          fmt::format("'{}' stands outside of a section, needed one such as [run]", section.str()),
          line_of(node));
    }
    if (node.as_table()->empty()) {
      const auto names = section_names();
      if (std::find(names.begin(), names.end(), section.str()) == names.end()) {
        return set_key(job, section.str(), "", node, line_of(node));
      }
    }
    for (const auto& [key, value] : *node.as_table()) {
      PLAIT_TRY_VOID(set_key(job, section.str(), key.str(), value, line_of(value)));
      origins[fmt::format("{}.{}", section.str(), key.str())] = line_of(value);
    }
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
Expected<void> apply_override(JobConfig& job, const Override& override, Origins& origins) {
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
  PLAIT_TRY_VOID(set_key(job, section, name, *parsed->get("value"), override.flag));
  origins[override.key] = override.flag;
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
  Origins origins;
  PLAIT_TRY_VOID(apply_text(job, text, path, origins));
  for (const Override& override : overrides) PLAIT_TRY_VOID(apply_override(job, override, origins));
  PLAIT_TRY_VOID(check_unused(job, overrides));
  if (Expected<void> valid = validate_job(job); !valid) {
    Error error = std::move(valid).error();
    const auto origin = origins.find(error.where);
    error.where = origin != origins.end() ? origin->second : path;
    return tl::unexpected<Error>(std::move(error));
  }
  return job;
}

}  // namespace plait
