/// The lowering options that trade memory for time, tried: how many stages of a rank are whole at a
/// time, and how far ahead they are unsharded.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"
#include "plait/passes/lowering.h"
#include "plait/sim/bound/price.h"
#include "plait/sim/cost_model.h"

namespace plait {

/// Which options are tried; the others are taken as they are.
struct ResidencyQuestion {
  LoweringOptions options;
  bool any_active_stages = false;  ///< 1 … the most stages that a rank computes
  bool any_lookahead = false;      ///< 1 … the active stages, the same on all ranks; and auto
};

/// A schedule as lowered with `options`, proven and priced.
struct PricedLowering {
  LoweringOptions options;
  std::string lookahead;  ///< for people: "full", "auto", or the number of all ranks
  std::vector<std::string> notes{};
  Price price{};
};

/// Lowerings by active stages, then by look-ahead, the furthest first, auto last.
struct PricedLowerings {
  std::vector<PricedLowering> priced;
  std::string why_not;  ///< the first that is left out: its error
};

/// Every lowering that the question allows, but for those that the schedule cannot have (one stage
/// where a pair has two) and those that break a rule, as with --defer-recv.
///
/// Errors: costs that do not fit. Cost: that of lower_as_torch() and price() for up to
/// V (V + 1) / 2 + V lowerings, V stages a rank. Thread-safe.
Expected<PricedLowerings> price_lowerings(const Schedule& schedule, const CostModel& costs,
                                          const ResidencyQuestion& question);

/// True if `a` is the better choice: it is faster, or as fast and holds less.
bool is_better(const PricedLowering& a, const PricedLowering& b);

}  // namespace plait
