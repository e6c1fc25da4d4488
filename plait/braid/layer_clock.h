/// Times a layer's braid under many lane orders. Reuses its buffers between runs.
#pragma once

#include <optional>
#include <vector>

#include "plait/braid/layer_braid.h"

namespace plait {

/// When a segment of a layer runs.
struct SegmentTime {
  int layer = 0;
  int segment = 0;
  Nanoseconds begin = 0;
  Nanoseconds end = 0;
};

/// The braid's needs and costs, which lay_out() has accepted; its own lanes do not matter.
class LayerClock {
 public:
  explicit LayerClock(const LayerBraid& braid);

  /// The end of the pair if each lane runs its order on its own, layer by layer, from 0; nothing if
  /// they wait in a circle. The same as PreparedBraid::run. Cost: O(layers * (segments + needs)).
  std::optional<Nanoseconds> run(const LaneOrders& lanes);

  /// The same for one thread that goes through `order`, all segments of a layer, layer by layer. It
  /// starts a communication segment and goes on at once; before a compute segment it waits until
  /// its needs have ended. Nothing if a segment stands before one that it needs.
  std::optional<Nanoseconds> run_one_thread(const std::vector<int>& order);

  /// Of the last run that gave a time, in the order of begins on each lane, compute first.
  std::vector<SegmentTime> times(const LaneOrders& lanes) const;

 private:
  static constexpr Nanoseconds kNotYet = -1;

  /// The last end of the segments that it needs; kNotYet if one of them has no end yet.
  Nanoseconds ready(int layer, int segment) const;
  std::size_t index_of(int layer, int segment) const {
    return static_cast<std::size_t>(layer) * segments_.size() + static_cast<std::size_t>(segment);
  }

  int layers_;
  std::vector<LayerSegment> segments_;
  std::vector<Nanoseconds> ends_;
};

}  // namespace plait
