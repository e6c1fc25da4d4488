/// What is kept of every action, where it is asked for: the timeline and the critical path.
#pragma once

#include <vector>

#include "plait/sim/engine.h"
#include "plait/sim/simulate.h"

namespace plait::sim_detail {

/// Only after engine.run(). Cost: O(A log A) for the A actions of the fullest rank.
Timeline record_timeline(Engine& engine);

/// Walks back from the action that ends last, each time to what kept it from beginning earlier: the
/// action before it on its rank, or else the one whose value came last. Only after engine.run().
std::vector<CriticalStep> find_critical_path(Engine& engine);

}  // namespace plait::sim_detail
