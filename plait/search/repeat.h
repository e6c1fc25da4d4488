/// A schedule for more micro-batches from the steady part of one for fewer.
#pragma once

#include <optional>

#include "plait/ir/schedule.h"
#include "plait/schedule/greedy/order_graph.h"

namespace plait {

/// The order with a part of every rank's list repeated until there are `microbatches`; the fastest
/// of those tried. A part that can be repeated has k micro-batches of each F, I and W of the rank:
///
///   F4 I3 W3 | F5 I4 W4 | F6 I5 W5      k = 1, repeated twice: … F5 I4 W4  F6 I5 W5  F7 I6 W6 …
///
/// So it leaves what the rank holds as it was, and no cap is exceeded. Parts of all ranks begin at
/// about the same time, of many times in the middle of the step. `schedule` has F, I and W alone,
/// one copy, and can finish. None if no part can be repeated. Cost: O(A) for each of at most 240
/// tried.
std::optional<Schedule> repeat_steady(const Schedule& schedule, int microbatches,
                                      const OrderCosts& costs);

}  // namespace plait
