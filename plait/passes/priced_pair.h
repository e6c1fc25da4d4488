/// Which of the pairs that can run are worth it.
#pragma once

#include "plait/passes/passes.h"

namespace plait::passes_detail {

/// Of `schedule` and of itself with one more forward to warm up, everywhere, per hop and both, each
/// with all pairs that can run and without any, takes the cheapest; then gives up pairs while that
/// makes the step shorter: all of a rank, all k-th ones, single ones. Prices at most kMostPrices
/// schedules. A candidate that cannot be priced is left out. Equal prices: fewer pairs, then the
/// earlier candidate. A schedule that holds pairs keeps its warm-up.
/// Errors: none of them can be priced (what the schedule as it is says).
Expected<Schedule> choose_pairs(const Schedule& schedule, bool inputs_too,
                                const SchedulePrice& price);

inline constexpr int kMostPrices = 2000;

}  // namespace plait::passes_detail
