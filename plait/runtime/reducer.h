/// What ranks that hold the same parameters do together while the step goes on, stage by stage:
/// they add up gradients, and gather parameters that are cut among them.
#pragma once

#include <memory>

#include "plait/base/check.h"
#include "plait/base/error.h"
#include "plait/program/grid.h"
#include "plait/runtime/stage.h"
#include "plait/runtime/value.h"

namespace plait {

/// Called for each REDUCE_GRAD and each group over which its stage's gradients add up, in this
/// order: scatter() and gather() when the communication lane issues them, finish() on the compute
/// lane. Calls of different stages may overlap in time. Where members own slices there is no
/// gather(): finish() is given the addends. unshard(), on the communication lane, end_unshard() and
/// reshard(), on the compute lane, are called for UNSHARDs that gather and RESHARDs that free;
/// `number` is how many of the stage's stand before it in the program.
/// Errors, thrown or returned, end the step.
class Reducer {
 public:
  virtual ~Reducer() = default;
  /// What a reduce-scatter takes: the stage's gradients, which are complete on this rank, as one
  /// slice for each member.
  virtual Expected<std::unique_ptr<ExchangeValue>> scatter(int stage, Group group) = 0;
  /// `addends`: what the reduce-scatter brought, each member's numbers for this rank's slice. What
  /// an all-gather takes: their sum, added up in ascending order of members.
  virtual Expected<std::unique_ptr<ExchangeValue>> gather(int, Group, Value) {
    PLAIT_CHECK(false, "slices of gradients stay with their owners");
  }
  /// `sums`: what the all-gather brought, the summed slices in order of members; without one, what
  /// the reduce-scatter brought.
  virtual Expected<void> finish(int stage, Group group, Value sums) = 0;

  /// What an all-gather takes: this rank's slice of the stage's parameters.
  virtual Expected<std::unique_ptr<ExchangeValue>> unshard(int, int, Group) {
    PLAIT_CHECK(false, "parameters that are not cut were to be gathered");
  }
  /// `slices`: what the all-gather brought, in order of members. Makes the parameters whole.
  virtual Expected<void> end_unshard(int, int, Group, Value) {
    PLAIT_CHECK(false, "parameters that are not cut were to be gathered");
  }
  /// Frees the stage's parameters but for this rank's slice.
  virtual Expected<void> reshard(int, int) {
    PLAIT_CHECK(false, "parameters that are not cut were to be freed");
  }
};

}  // namespace plait
