/// The best lane orders of a layer's pair, all layers running the same.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "plait/base/error.h"
#include "plait/braid/layer_braid.h"

namespace plait {

struct BraidSearchOptions {
  /// Pairs of lane orders that are tried one and all; where more keep the needs within a layer, a
  /// local search takes their place.
  std::int64_t most_orders = 5'000'000;
  int local_steps = 200'000;  ///< of the local search
  std::uint32_t seed = 1;     ///< of the local search
  std::size_t keep = 10;      ///< how many of the best are given
};

struct BraidOrder {
  LaneOrders lanes;
  Nanoseconds makespan = 0;
};

struct BraidSearch {
  bool exhaustive = true;  ///< false: a local search, its best may not be the best there is
  /// n! of each lane, by Lane.
  std::array<double, 2> orders_of_lane{};
  /// Pairs of lane orders that do not wait in a circle: all of them, or those that were met.
  std::int64_t running = 0;
  /// By makespan; equal ones as they were met: near the braid's own order first.
  std::vector<BraidOrder> best;
};

/// Errors: what lay_out() refuses; unknown costs; more than 64 segments a layer; segments that need
/// each other in a circle. Cost: at most most_orders or local_steps runs of a LayerClock. Same
/// input, same output.
Expected<BraidSearch> search_braid(const LayerBraid& braid, const BraidSearchOptions& options = {});

/// One thread that issues both lanes (LayerClock::run_one_thread).
struct OneThreadSearch {
  std::int64_t orders = 0;  ///< of a layer's segments, each behind what it needs
  std::vector<int> best;
  Nanoseconds best_makespan = 0;
  Nanoseconds worst_makespan = 0;
  Nanoseconds listed_makespan = 0;  ///< in the order of the braid's segments, by their needs
};

/// Nothing where there are more than `most_orders`. Errors: as search_braid().
Expected<std::optional<OneThreadSearch>> search_one_thread(const LayerBraid& braid,
                                                           std::int64_t most_orders = 1'000'000);

}  // namespace plait
