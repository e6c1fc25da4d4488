/// Adds up the gradients of ranks that hold the same parameters, stage by stage, while the step
/// goes on.
#pragma once

#include <memory>

#include "plait/base/error.h"
#include "plait/program/grid.h"
#include "plait/runtime/stage.h"
#include "plait/runtime/value.h"

namespace plait {

/// Called for each REDUCE_GRAD and each group over which its stage's gradients add up, in this
/// order: scatter() and gather() when the communication lane issues them, finish() on the compute
/// lane. Calls of different stages may overlap in time.
/// Errors, thrown or returned, end the step.
class Reducer {
 public:
  virtual ~Reducer() = default;
  /// What a reduce-scatter takes: the stage's gradients, which are complete on this rank, as one
  /// slice for each member.
  virtual Expected<std::unique_ptr<ExchangeValue>> scatter(int stage, Group group) = 0;
  /// `addends`: what the reduce-scatter brought, each member's numbers for this rank's slice. What
  /// an all-gather takes: their sum, added up in ascending order of members.
  virtual Expected<std::unique_ptr<ExchangeValue>> gather(int stage, Group group,
                                                          Value addends) = 0;
  /// `sums`: what the all-gather brought, the summed slices in order of members.
  virtual Expected<void> finish(int stage, Group group, Value sums) = 0;
};

}  // namespace plait
