/// Times a layer's braid under many lane orders: what it allocates it keeps.
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

  /// The same for one thread, whose `order` has all segments of a layer: it computes itself, starts
  /// an exchange when it comes to it and goes on, and waits where it computes on what is not there
  /// yet. Nothing if a segment stands before what it needs.
  std::optional<Nanoseconds> run_one_thread(const std::vector<int>& order);

  /// Of the last run that gave a time, in the order of begins on each lane, compute first.
  std::vector<SegmentTime> times(const LaneOrders& lanes) const;

 private:
  static constexpr Nanoseconds kNotYet = -1;

  /// The end of what a segment needs; kNotYet if not all has ended.
  Nanoseconds ready(int layer, int segment) const;
  std::size_t place(int layer, int segment) const {
    return static_cast<std::size_t>(layer) * segments_.size() + static_cast<std::size_t>(segment);
  }

  int layers_;
  std::vector<LayerSegment> segments_;
  std::vector<Nanoseconds> ends_;
};

}  // namespace plait
