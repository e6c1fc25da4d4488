/// What each stage's actions cost: what cost-aware schedules, bounds and the simulator start from.
#pragma once

#include <cstddef>
#include <vector>

#include "plait/base/units.h"
#include "plait/ir/action.h"

namespace plait {

/// One entry per stage, nanoseconds.
struct ActionCosts {
  std::vector<Nanoseconds> forward;
  std::vector<Nanoseconds> backward_input;
  std::vector<Nanoseconds> backward_weight;
  std::vector<Nanoseconds> backward;  ///< of a whole B
  Nanoseconds hop = 0;  ///< from a producer's end to its reader on another rank; no rank is busy
  /// On the rank before each I or B, after the F, whether its gradient is there or not; empty:
  /// none.
  std::vector<Nanoseconds> recompute{};

  /// Of a compute action alone, without what it recomputes.
  Nanoseconds length_of(const Action& action) const {
    const auto stage = static_cast<std::size_t>(action.stage);
    switch (action.type) {
      case ActionType::kForward:
        return forward[stage];
      case ActionType::kBackwardInput:
        return backward_input[stage];
      case ActionType::kBackwardWeight:
        return backward_weight[stage];
      default:
        return backward[stage];
    }
  }
  Nanoseconds recompute_of(std::size_t stage) const {
    return recompute.empty() ? 0 : recompute[stage];
  }
  friend bool operator==(const ActionCosts&, const ActionCosts&) = default;
};

/// F, I and W take `unit`, B two.
inline ActionCosts unit_costs(int stages, Nanoseconds unit = 1) {
  const auto count = static_cast<std::size_t>(stages);
  return {std::vector<Nanoseconds>(count, unit), std::vector<Nanoseconds>(count, unit),
          std::vector<Nanoseconds>(count, unit), std::vector<Nanoseconds>(count, 2 * unit), 0};
}

}  // namespace plait
