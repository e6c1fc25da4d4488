/// What turns gradients into new parameters.
#pragma once

#include "plait/train/train_state.h"

namespace plait {

/// Of the parameters of one column on one rank, which it was made with.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// `gradient_scale` multiplies every gradient first (clipping).
  virtual void step(double learning_rate, double gradient_scale) = 0;
  /// What it keeps from step to step, all of it.
  virtual TrainState state() = 0;
};

}  // namespace plait
