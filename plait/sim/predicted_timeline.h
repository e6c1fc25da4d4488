/// The timeline of a simulated step, event for event as the runtime would measure it.
#pragma once

#include "plait/sim/engine.h"
#include "plait/timeline/timeline.h"

namespace plait::sim_detail {

/// Only after engine.run(). Cost: O(A log A) for the A actions of the fullest rank.
Timeline predicted_timeline(Engine& engine);

}  // namespace plait::sim_detail
