/// What a schedule takes under given costs, beside what no order of its actions can beat.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/passes/passes.h"
#include "plait/sim/bound/bounds.h"
#include "plait/sim/cost_model.h"
#include "plait/sim/simulate.h"

namespace plait {

/// A proven schedule under given costs.
struct Price {
  std::string schedule;
  int ranks = 0;
  int microbatches = 0;
  int chunks = 0;
  bool has_bytes = false;
  Prediction prediction;
  Bound bound;                          ///< no order of these actions on this placement is faster
  std::vector<int> activation_slots{};  ///< by rank: activation_slots()

  Nanoseconds worst_idle() const;
  /// Makespan less bound: what any order could save at most.
  Nanoseconds above_bound() const { return prediction.makespan_ns - bound.makespan; }
  /// above_bound() as a share of the bound.
  double share_above_bound() const;
  std::int64_t worst_peak() const;  ///< bytes, or stage activations without byte costs
};

/// By rank, how many buffers hold all its stage activations, each from its F to its B or W: torch's
/// colouring of lifetimes gives them one of so many slots. A lifetime includes the places of both
/// ends; members of a pair share one. Cost: O(actions).
///
/// Intervals in the order of their begins, each in the lowest free slot, take as many slots as live
/// at once at most: a new slot is opened only while all others are taken.
/// Source: torch.distributed.pipelining, analyze_pipeline_activation_liveness.
std::vector<int> activation_slots(const Schedule& schedule);

/// What price() simulates: with its communication if links are priced, and as it is otherwise.
/// Errors and cost: those of insert_comm().
Expected<Schedule> as_priced(Schedule schedule, const CostModel& costs);

/// Proves the schedule, with its communication if links are priced, and simulates it.
/// Errors: also a schedule that breaks a rule (the first finding). Cost: those of insert_comm(),
/// verify(), simulate() and best_bound(). Thread-safe.
Expected<Price> price(Schedule schedule, const CostModel& costs, const SimulateOptions& options);

/// price() for passes that choose by it (passes/passes.h): the makespan. A schedule of which a rank
/// holds more than `max_activations` stage activations has none (kCheckFailed, with the numbers).
SchedulePrice schedule_price(CostModel costs, std::optional<int> max_activations);

}  // namespace plait
