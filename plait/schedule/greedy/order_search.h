/// Makes a given order faster by exchanging neighbours on its critical path.
#pragma once

#include "plait/base/units.h"
#include "plait/ir/costs.h"
#include "plait/ir/schedule.h"

namespace plait {

/// The best order met on a walk of exchanges from `schedule`, which is one of them: never slower
/// than it, no rank above `activations` stage activations. Only two neighbours of a rank that both
/// are on the longest path change places (the neighbourhood of van Laarhoven, Aarts and Lenstra,
/// 1992), micro-batches of a stage stay ascending; the walk goes on where the makespan is not above
/// that of some steps before (late acceptance, Burke and Bykov, 2017). Deterministic.
/// `schedule` has compute actions alone, no pairs, and can finish. `goal`: a makespan at which to
/// stop. Cost: O(A) for each of at most 4,000 exchanges, fewer for A above 2,500; none for A above
/// a million.
Schedule search_order(Schedule schedule, const ActionCosts& costs, int activations,
                      Nanoseconds goal);

}  // namespace plait
