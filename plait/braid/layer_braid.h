/// A pair of stages of equal layers: a layer's segments, and the lane orders that all layers run.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/braid/braid.h"
#include "plait/ir/lane.h"
#include "plait/program/layer_order.h"

namespace plait {

inline constexpr int kMostLayers = 1 << 12;
inline constexpr int kMostLayerSegments = 1 << 10;
/// Of one segment: that of all, of most layers, fits 64 bits.
inline constexpr Nanoseconds kMostSegmentCost = 1'000'000'000'000;

struct LayerSegment {
  LayerWord word;  ///< unique within the layer
  Lane lane = Lane::kCompute;
  std::vector<int> needs{};                  ///< segments of the same layer, indices
  std::vector<int> needs_of_layer_before{};  ///< the first layer has none before it
  std::vector<Nanoseconds> costs{};          ///< none: not known; one; or one for each layer

  /// 0 if not known.
  Nanoseconds cost(int layer) const;
  friend bool operator==(const LayerSegment&, const LayerSegment&) = default;
};

/// By Lane: segments in the order in which it runs them, indices.
using LaneOrders = std::array<std::vector<int>, 2>;

struct LayerBraid {
  int layers = 1;
  std::vector<LayerSegment> segments;
  LaneOrders lanes;

  bool has_costs() const;
  LayerOrder order() const;
  friend bool operator==(const LayerBraid&, const LayerBraid&) = default;
};

/// default_layer_order() with what its segments need; two layers, no costs.
LayerBraid default_layer_braid();

/// The braid with `kind`.R, without a cost, where the runtime places it unless told: right before
/// `kind`.B on the compute lane, which needs it. Errors: no `kind`.B there, or an R already.
Expected<LayerBraid> with_recompute(LayerBraid braid, const std::string& kind);

/// Each segment at its mean over the layers, rounded to 1 ns.
LayerBraid with_mean_costs(LayerBraid braid);

/// A lane order for segments that stand in one list: each lane its own, as they stand.
LaneOrders lanes_as_listed(const std::vector<LayerSegment>& segments);

/// A layer's segments, each behind what it needs of its layer, otherwise as they stand; nothing if
/// they need each other in a circle. Cost: O(segments^2).
std::optional<std::vector<int>> order_by_needs(const std::vector<LayerSegment>& segments);

/// The segments of all layers, each lane in its order: "attn.F of layer 0".
///
/// Errors: costs that are neither one nor one for each layer, are negative or above the most; a
/// need that is not there; a lane that lacks a segment, has it twice or has another's.
Expected<Braid> lay_out(const LayerBraid& braid);

}  // namespace plait
