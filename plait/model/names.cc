#include "plait/model/names.h"

#include <fmt/core.h>

#include <charconv>

namespace plait {

namespace {

constexpr std::string_view kLayers = "model.layers.";
constexpr std::string_view kExperts = "mlp.experts.";

/// Takes `prefix`, a number and a dot from the front of `text`.
std::optional<int> take_number(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return std::nullopt;
  text.remove_prefix(prefix.size());
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end == text.data() + text.size() || *end != '.') return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
  return number;
}

}  // namespace

std::string layer_name(int layer, std::string_view rest) {
  return fmt::format("{}{}.{}", kLayers, layer, rest);
}

std::string expert_name(int layer, int expert, std::string_view rest) {
  return layer_name(layer, fmt::format("{}{}.{}", kExperts, expert, rest));
}

std::string router_bias_name(int layer) {
  return layer_name(layer, "mlp.gate.e_score_correction_bias");
}

std::optional<int> layer_of(std::string_view tensor) { return take_number(tensor, kLayers); }

std::optional<ExpertOfLayer> expert_of(std::string_view parameter) {
  const std::optional<int> layer = take_number(parameter, kLayers);
  if (!layer) return std::nullopt;
  const std::optional<int> expert = take_number(parameter, kExperts);
  if (!expert) return std::nullopt;
  return ExpertOfLayer{*layer, *expert};
}

}  // namespace plait
