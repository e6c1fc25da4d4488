/// Which of the pairs that can run are worth it.
#pragma once

#include "plait/passes/passes.h"

namespace plait::passes_detail {

/// 1. Candidates: `schedule` as it is; and `schedule`, also with one more forward to warm up
///    (everywhere, per hop, both), with all pairs that can run. One that holds pairs already keeps
///    its warm-up.
/// 2. Takes the cheapest candidate. Of equal prices: the one with fewer pairs, then the earlier.
/// 3. Gives up pairs while that makes the step shorter: all of a rank, all k-th ones, single ones.
/// Prices at most kMostPrices schedules; one that cannot be priced is left out.
/// Errors: no candidate can be priced (the error of `schedule` itself).
Expected<Schedule> choose_pairs(const Schedule& schedule, bool inputs_too,
                                const SchedulePrice& price);

inline constexpr int kMostPrices = 2000;

}  // namespace plait::passes_detail
