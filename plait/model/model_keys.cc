#include "plait/model/model_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "plait/model/architectures.h"

namespace plait {
namespace {

constexpr double kMost = std::numeric_limits<int>::max();

tl::unexpected<Error> wrong(std::string_view key, const std::string& message) {
  return fail(ErrorCode::kInvalidInput, message, fmt::format("model.{}", key));
}

/// What the key needs, if `value` is out of its range.
std::optional<std::string> needed(KeyRange range, double value) {
  switch (range) {
    case KeyRange::kAny:
      return std::nullopt;
    case KeyRange::kAtLeastOne:
      if (value < 1) return "at least 1";
      break;
    case KeyRange::kAtLeastZero:
      if (!(value >= 0)) return "at least 0";
      break;
    case KeyRange::kPositive:
      if (!std::isfinite(value) || value <= 0) return "a positive number";
      break;
    case KeyRange::kShare:
      if (!(value >= 0 && value < 1)) return "at least 0 and below 1";
      break;
  }
  if (value > kMost) return fmt::format("at most {:.0f}", kMost);
  return std::nullopt;
}

struct AsNumber {
  double operator()(const int* value) const { return *value; }
  double operator()(const std::int64_t* value) const { return static_cast<double>(*value); }
  double operator()(const double* value) const { return *value; }
  template <typename Other>
  double operator()(const Other*) const {
    return 0;
  }
};

/// Takes a copy, as a field is found in a model that may be changed.
template <typename Visitor>
Expected<void> each_key(ModelConfig model, Visitor&& visit) {
  for (const ModelKey& key : kModelKeys) PLAIT_TRY_VOID(visit(key, key.field(model)));
  return {};
}

bool is_default(const ModelKey& key, const ModelField& field) {
  ModelConfig none;
  return std::visit(
      [&](const auto* value) {
        return *value == *std::get<std::remove_const_t<std::remove_pointer_t<decltype(value)>>*>(
                             key.field(none));
      },
      field);
}

Expected<void> check_rope_scaling(const RopeScaling& scaling) {
  const auto part = [](const std::string& message) {
    return wrong("rope_scaling", fmt::format("rope_scaling: {}", message));
  };
  if (scaling.rope_type != "default" && scaling.rope_type != "llama3") {
    return fail(ErrorCode::kNotBuilt,
                fmt::format("rope_scaling: rope_type is '{}', this version knows only default and "
                            "llama3",
                            scaling.rope_type),
                "model.rope_scaling");
  }
  const auto positive = [](double value) { return std::isfinite(value) && value > 0; };
  if (!positive(scaling.factor))
    return part(fmt::format("factor is {}, needs to be a positive number", scaling.factor));
  if (!positive(scaling.low_freq_factor) || !positive(scaling.high_freq_factor) ||
      scaling.low_freq_factor >= scaling.high_freq_factor) {
    return part(
        fmt::format("low_freq_factor is {} and high_freq_factor {}, need to be positive and the "
                    "first the smaller",
                    scaling.low_freq_factor, scaling.high_freq_factor));
  }
  if (scaling.original_max_position_embeddings < 1) {
    return part(fmt::format("original_max_position_embeddings is {}, needs to be at least 1",
                            scaling.original_max_position_embeddings));
  }
  return {};
}

Expected<void> check_heads(const ModelConfig& model) {
  if (model.head_dim == 0 && model.hidden_size % model.num_attention_heads != 0) {
    return wrong("hidden_size",
                 fmt::format("hidden_size is {}, must be a multiple of {} attention heads, unless "
                             "head_dim is given",
                             model.hidden_size, model.num_attention_heads));
  }
  if (model.num_attention_heads % model.num_key_value_heads != 0) {
    return wrong("num_attention_heads",
                 fmt::format("num_attention_heads is {}, must be a multiple of num_key_value_heads "
                             "{}",
                             model.num_attention_heads, model.num_key_value_heads));
  }
  if (model.head_dim % 2 != 0) {
    return wrong("head_dim",
                 fmt::format("head_dim is {}, must be even for rotary positions", model.head_dim));
  }
  if (model.head_size() % 2 != 0) {
    return wrong(
        "hidden_size",
        fmt::format("hidden_size is {} for {} heads, a head's size must be even for rotary "
                    "positions",
                    model.hidden_size, model.num_attention_heads));
  }
  return {};
}

Expected<void> check_mixture(const ModelConfig& model) {
  if (model.num_experts_per_tok > model.n_routed_experts) {
    return wrong("num_experts_per_tok",
                 fmt::format("num_experts_per_tok is {}, needs to be at most n_routed_experts {}",
                             model.num_experts_per_tok, model.n_routed_experts));
  }
  if (model.first_k_dense_replace > model.num_hidden_layers) {
    return wrong(
        "first_k_dense_replace",
        fmt::format("first_k_dense_replace is {}, needs to be at most num_hidden_layers {}",
                    model.first_k_dense_replace, model.num_hidden_layers));
  }
  if (model.scoring_func != "sigmoid" && model.scoring_func != "softmax") {
    return wrong("scoring_func",
                 fmt::format("scoring_func is '{}', needed sigmoid, softmax", model.scoring_func));
  }
  return {};
}

Expected<void> check_range(const ModelKey& key, const ModelField& field) {
  const auto range = needed(key.range, std::visit(AsNumber{}, field));
  if (!range) return {};
  return wrong(key.name,
               fmt::format("{} is {}, needs to be {}", key.name, print_model_value(field), *range));
}

std::string number(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

struct Printer {
  std::string operator()(const std::string* value) const { return *value; }
  std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(const RopeScaling* value) const {
    if (!value->scales()) return fmt::format("{{ rope_type = \"{}\" }}", value->rope_type);
    return fmt::format(
        "{{ rope_type = \"{}\", factor = {}, low_freq_factor = {}, high_freq_factor = {}, "
        "original_max_position_embeddings = {} }}",
        value->rope_type, number(value->factor), number(value->low_freq_factor),
        number(value->high_freq_factor), value->original_max_position_embeddings);
  }
  template <typename Number>
  std::string operator()(const Number* value) const {
    return fmt::format("{}", *value);
  }
};

}  // namespace

std::string print_model_value(const ModelField& field) { return std::visit(Printer{}, field); }

Expected<void> check_model_keys(const ModelConfig& model) {
  if (find_architecture(model.architecture) == nullptr) {
    return wrong("architecture", fmt::format("architecture is '{}', needed {}", model.architecture,
                                             architecture_names()));
  }
  PLAIT_TRY_VOID(each_key(model, [](const ModelKey& key, const ModelField& field) {
    return key.mixture ? Expected<void>() : check_range(key, field);
  }));
  return check_rope_scaling(model.rope_scaling);
}

Expected<void> check_model(const ModelConfig& model) {
  PLAIT_TRY_VOID(check_model_keys(model));
  PLAIT_TRY_VOID(check_heads(model));
  const bool mixture = find_architecture(model.architecture)->mixture;
  PLAIT_TRY_VOID(
      each_key(model, [&](const ModelKey& key, const ModelField& field) -> Expected<void> {
        if (!key.mixture) return {};
        if (mixture) return check_range(key, field);
        if (is_default(key, field)) return {};
        return wrong(key.name, fmt::format("{} is {}, but a {} has no experts, deepseek-v3 has",
                                           key.name, print_model_value(field), model.architecture));
      }));
  return mixture ? check_mixture(model) : Expected<void>();
}

}  // namespace plait
