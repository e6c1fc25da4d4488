/// The orders that a search begins with.
#pragma once

#include <string>
#include <vector>

#include "plait/ir/schedule.h"
#include "plait/schedule/greedy/order_graph.h"

namespace plait {

struct Start {
  std::string how;  ///< "zbv", "greedy", …
  Schedule schedule;
  Nanoseconds makespan = 0;  ///< as OrderGraph times it
};

/// One micro-batch after the other, each W right behind its I: no order holds less than this one
/// does before a W. Cost: O(A).
Schedule one_at_a_time(const Placement& placement, int microbatches);

/// Every schedule of kGenerators over the placement and the greedy orders, those that keep the
/// caps, the fastest first, without doubles; I and W apart. one_at_a_time() has to keep them.
/// `activations`: the caps in stage activations, for those that are made for a cap.
std::vector<Start> starts_of(const Placement& placement, int microbatches, const OrderCosts& costs,
                             int activations);

}  // namespace plait
