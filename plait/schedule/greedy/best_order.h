/// The fastest of several orders for given costs: how the cost-aware schedules choose, and how
/// others are defined for an M that their own rule does not cover.
#pragma once

#include <initializer_list>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/ir/costs.h"
#include "plait/ir/schedule.h"

namespace plait {

/// The best order so far within a cap of stage activations a rank; the first of equals.
class BestOrder {
 public:
  /// `costs` has to outlive it.
  BestOrder(const ActionCosts& costs, int activations) : costs_(costs), activations_(activations) {}

  /// Orders that cannot finish or hold too much are passed over. Cost: O(A).
  void offer(Schedule schedule);
  /// Every policy of the list scheduler with I and W apart, until one takes no more than `enough`.
  /// `empty` has no actions yet; `of_stage` as in ListPolicy. Cost: O(A log P) for each of twelve.
  void offer_greedy(const Schedule& empty, int activations, Nanoseconds enough = 0,
                    const std::vector<int>& of_stage = {});
  std::optional<Schedule> take() { return std::move(best_); }

 private:
  const ActionCosts& costs_;
  int activations_;
  std::optional<Schedule> best_;
  Nanoseconds makespan_ = std::numeric_limits<Nanoseconds>::max();
};

/// The best greedy order at unit costs, without pairs, of those for each of the caps, in stage
/// activations a rank; tries no further once a rank is idle no longer than `idle`.
Expected<Schedule> best_greedy_order(std::string_view name, Placement placement, int microbatches,
                                     std::initializer_list<int> caps, Nanoseconds idle);

}  // namespace plait
