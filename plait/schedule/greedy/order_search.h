/// Makes a given order faster by swapping neighbours on its critical path.
#pragma once

#include "plait/base/units.h"
#include "plait/ir/costs.h"
#include "plait/ir/schedule.h"

namespace plait {

/// A walk of swaps from `schedule`; returns the best order met, so never a slower one. A step swaps
/// two neighbours of a rank that both are on the longest path (the neighbourhood of van Laarhoven,
/// Aarts and Lenstra, 1992), if micro-batches of a stage stay ascending and the rank stays within
/// `activations` stage activations. It is kept if the makespan is not above that of some steps
/// before (late acceptance, Burke and Bykov, 2017). Deterministic.
/// `schedule` has compute actions alone, no pairs, and can finish. `goal`: a makespan at which to
/// stop. Cost: O(A) for each of at most 4,000 swaps, fewer for A above 2,500; none for A above a
/// million.
Schedule search_order(Schedule schedule, const ActionCosts& costs, int activations,
                      Nanoseconds goal);

}  // namespace plait
