/// What if one rank is slower?
#pragma once

#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/sim/cost_model.h"
#include "plait/verify/verify.h"

namespace plait {

struct RankSensitivity {
  Nanoseconds makespan_ns = 0;  ///< if all compute of the rank takes `slower` longer
  /// How much longer, as a share, it can take before the step does; kMostSlack: that or more.
  double slack = 0;

  static constexpr double kMostSlack = 1;
};

/// By rank. `slower`: 0.1 is 10 %. Shares of slack are found to a tenth of a per cent, down; where
/// links, collectives or pairs have prices, times are rounded to 1 ns, else they are not.
/// Errors: those of simulate(); two copies, whose stages are no single rank's. Cost: eleven runs of
/// simulate() a rank. Thread-safe.
Expected<std::vector<RankSensitivity>> rank_sensitivity(const VerifiedSchedule& schedule,
                                                        const CostModel& costs, double slower);

}  // namespace plait
