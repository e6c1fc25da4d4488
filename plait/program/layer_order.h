/// The order of a layer's pair in words: on each lane, what it runs of the forward and the
/// backward.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plait {

/// Whose work a segment is. W's and R's segments belong to the backward; W's are left out where a
/// pair's backward is an I.
enum class SegmentOf : std::uint8_t { kForward, kBackwardInput, kBackwardWeight, kRecompute };
inline constexpr std::size_t kSegmentKinds = 4;

/// "attn.F", "mlp.B", "mlp.W", "mlp.R": what is run, and for whom. B is the backward without its W,
/// R the forward again before its B.
struct LayerWord {
  std::string kind;
  SegmentOf of = SegmentOf::kForward;

  std::string text() const;
  friend bool operator==(const LayerWord&, const LayerWord&) = default;
};

/// Nothing if `text` is no word: a kind of letters, digits, '_', '-' and '.', then .F, .B, .W or
/// .R.
std::optional<LayerWord> parse_word(std::string_view text);

/// Each lane runs its words in this order, layer by layer.
struct LayerOrder {
  std::vector<LayerWord> compute;
  std::vector<LayerWord> communication;

  friend bool operator==(const LayerOrder&, const LayerOrder&) = default;
};

/// Of a mixture-of-experts layer, as DeepSeek-V3's public profile shows it:
///   compute: attn.F mlp.B mlp.W mlp.F attn.B attn.W
///   communication: combine.B counts.F dispatch.F dispatch.B combine.F
/// counts.F tells how many rows dispatch.F will bring; integers have no backward.
LayerOrder default_layer_order();

}  // namespace plait
