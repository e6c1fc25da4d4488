/// A question's caps as the walk and the bounds take them.
#pragma once

#include <vector>

#include "plait/base/error.h"
#include "plait/schedule/greedy/order_graph.h"
#include "plait/search/search.h"

namespace plait {

/// What the walk minimises under. Errors: a cap below what one_at_a_time() holds, with that; it is
/// the least that any order holds, or the message says what that is at least.
Expected<OrderCosts> order_costs(const SearchQuestion& question);

/// By rank, a number of stage activations that no order within the caps exceeds; empty: none.
std::vector<int> activation_caps(const SearchQuestion& question);

}  // namespace plait
