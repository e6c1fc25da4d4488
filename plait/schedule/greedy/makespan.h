/// What an order costs when every rank runs its list in order: what the cost-aware schedules judge
/// their candidates by.
#pragma once

#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/ir/costs.h"
#include "plait/ir/schedule.h"

namespace plait {

struct OrderPrice {
  Nanoseconds makespan = 0;
  /// By rank: most stage activations at once, each held from its F's start to the end of its W or
  /// B.
  std::vector<int> peak_activations;
};

/// Errors: costs for another number of stages than `stages`; a cost below zero.
Expected<void> check_costs(std::string_view name, const ActionCosts& costs, int stages);

/// The makespan by ListClock (ir/list_clock.h), which is that of the simulator without links and
/// lanes (order_price_test holds them equal).
/// `schedule` has no communication. Errors: those of check_costs; an action outside
/// the schedule; an order that cannot finish, with where a rank stands still. Cost: O(A) for A
/// actions, two times per cell.
Expected<OrderPrice> price_order(const Schedule& schedule, const ActionCosts& costs);

/// Most stage activations at once, for each rank. Cost: O(A).
std::vector<int> peak_activations(const Schedule& schedule);

}  // namespace plait
