#include "plait/program/layer_order.h"

#include <algorithm>
#include <array>

namespace plait {
namespace {

/// Not std::isalnum, which asks the locale.
bool is_of_kind(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-' || c == '.';
}

}  // namespace

std::string LayerWord::text() const {
  constexpr std::array<std::string_view, kSegmentKinds> kSuffixes{".F", ".B", ".W", ".R"};
  return kind + std::string(kSuffixes[static_cast<std::size_t>(of)]);
}

std::optional<LayerWord> parse_word(std::string_view text) {
  constexpr std::size_t kSuffix = 2;
  if (text.size() <= kSuffix || text[text.size() - kSuffix] != '.') return std::nullopt;
  const std::string_view kind = text.substr(0, text.size() - kSuffix);
  if (!std::all_of(kind.begin(), kind.end(), is_of_kind)) return std::nullopt;
  switch (text.back()) {
    case 'F':
      return LayerWord{std::string(kind), SegmentOf::kForward};
    case 'B':
      return LayerWord{std::string(kind), SegmentOf::kBackwardInput};
    case 'W':
      return LayerWord{std::string(kind), SegmentOf::kBackwardWeight};
    case 'R':
      return LayerWord{std::string(kind), SegmentOf::kRecompute};
    default:
      return std::nullopt;
  }
}

LayerOrder default_layer_order() {
  constexpr SegmentOf kF = SegmentOf::kForward;
  constexpr SegmentOf kB = SegmentOf::kBackwardInput;
  constexpr SegmentOf kW = SegmentOf::kBackwardWeight;
  return {{{"attn", kF}, {"mlp", kB}, {"mlp", kW}, {"mlp", kF}, {"attn", kB}, {"attn", kW}},
          {{"combine", kB}, {"counts", kF}, {"dispatch", kF}, {"dispatch", kB}, {"combine", kF}}};
}

}  // namespace plait
