/// What a rank's replay adds up to: times, idle time by part, memory.
#pragma once

#include <vector>

#include "plait/sim/engine.h"
#include "plait/sim/simulate.h"

namespace plait::sim_detail {

/// Fills `prediction`'s makespan, span, pair coverage and ranks. Only after engine.run().
void account(Engine& engine, Prediction& prediction);

}  // namespace plait::sim_detail
