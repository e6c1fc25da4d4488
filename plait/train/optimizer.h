/// What turns gradients into new parameters.
#pragma once

#include <vector>

#include "plait/train/train_state.h"
#include "plait/train/trained_slice.h"

namespace plait {

/// Of the slices of one column on one rank. It is made with them, and each call gets them in the
/// same order.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// `gradient_scale` multiplies every gradient first (clipping).
  virtual void step(const std::vector<TrainedSlice>& slices, double learning_rate,
                    double gradient_scale) = 0;
  /// What it keeps from step to step, all of it.
  virtual TrainState state(const std::vector<TrainedSlice>& slices) = 0;
};

}  // namespace plait
