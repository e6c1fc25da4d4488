/// The totals of each rank over a simulated step: busy and idle time by its causes, memory.
#pragma once

#include <vector>

#include "plait/sim/engine.h"
#include "plait/sim/simulate.h"

namespace plait::sim_detail {

/// Fills `prediction`'s makespan, span, pair coverage and ranks. Only after engine.run().
void add_up_ranks(Engine& engine, Prediction& prediction);

}  // namespace plait::sim_detail
