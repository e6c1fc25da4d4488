/// The critical path of a step: a chain of actions, each of which kept the next from beginning
/// earlier.
#pragma once

#include <vector>

#include "plait/sim/engine.h"
#include "plait/sim/simulate.h"

namespace plait::sim_detail {

/// Begins at the action that ends last. The step before an action is the action before it on its
/// rank, or the maker of a value it reads, whichever came later. In time order.
/// Only after engine.run().
std::vector<CriticalStep> find_critical_path(Engine& engine);

}  // namespace plait::sim_detail
