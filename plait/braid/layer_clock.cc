#include "plait/braid/layer_clock.h"

#include <algorithm>

namespace plait {

LayerClock::LayerClock(const LayerBraid& braid)
    : layers_(braid.layers),
      segments_(braid.segments),
      ends_(static_cast<std::size_t>(layers_) * segments_.size(), kNotYet) {}

Nanoseconds LayerClock::ready(int layer, int segment) const {
  const LayerSegment& one = segments_[static_cast<std::size_t>(segment)];
  Nanoseconds ready = 0;
  for (const int need : one.needs) {
    const Nanoseconds end = ends_[index_of(layer, need)];
    if (end == kNotYet) return kNotYet;
    ready = std::max(ready, end);
  }
  if (layer == 0) return ready;
  for (const int need : one.needs_of_layer_before) {
    const Nanoseconds end = ends_[index_of(layer - 1, need)];
    if (end == kNotYet) return kNotYet;
    ready = std::max(ready, end);
  }
  return ready;
}

std::optional<Nanoseconds> LayerClock::run(const LaneOrders& lanes) {
  std::fill(ends_.begin(), ends_.end(), kNotYet);
  struct Head {
    int layer = 0;
    std::size_t position = 0;
    Nanoseconds free = 0;
  };
  std::array<Head, 2> heads;
  std::size_t left = ends_.size();
  while (left > 0) {
    const std::size_t before = left;
    for (std::size_t lane = 0; lane < heads.size(); ++lane) {
      const std::vector<int>& order = lanes[lane];
      Head& head = heads[lane];
      while (!order.empty() && head.layer < layers_) {
        const int segment = order[head.position];
        const Nanoseconds begin = ready(head.layer, segment);
        if (begin == kNotYet) break;
        head.free = std::max(head.free, begin) +
                    segments_[static_cast<std::size_t>(segment)].cost(head.layer);
        ends_[index_of(head.layer, segment)] = head.free;
        --left;
        if (++head.position < order.size()) continue;
        head.position = 0;
        ++head.layer;
      }
    }
    if (left == before) return std::nullopt;
  }
  return std::max(heads[0].free, heads[1].free);
}

std::optional<Nanoseconds> LayerClock::run_one_thread(const std::vector<int>& order) {
  std::fill(ends_.begin(), ends_.end(), kNotYet);
  Nanoseconds thread = 0;
  Nanoseconds communication = 0;  // the end of that lane, which runs its segments in order
  for (int layer = 0; layer < layers_; ++layer) {
    for (const int segment : order) {
      const LayerSegment& one = segments_[static_cast<std::size_t>(segment)];
      const Nanoseconds needed = ready(layer, segment);
      if (needed == kNotYet) return std::nullopt;
      const Nanoseconds begin = std::max(thread, needed);
      Nanoseconds& lane = one.lane == Lane::kCompute ? thread : communication;
      lane = std::max(lane, begin) + one.cost(layer);
      ends_[index_of(layer, segment)] = lane;
    }
  }
  return std::max(thread, communication);
}

std::vector<SegmentTime> LayerClock::times(const LaneOrders& lanes) const {
  std::vector<SegmentTime> times;
  for (const std::vector<int>& order : lanes) {
    for (int layer = 0; layer < layers_; ++layer) {
      for (const int segment : order) {
        const Nanoseconds end = ends_[index_of(layer, segment)];
        const Nanoseconds cost = segments_[static_cast<std::size_t>(segment)].cost(layer);
        times.push_back({layer, segment, end - cost, end});
      }
    }
  }
  return times;
}

}  // namespace plait
