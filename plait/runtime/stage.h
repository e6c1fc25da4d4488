/// One stage of the model as the executor sees it: four functions on values.
#pragma once

#include "plait/base/error.h"
#include "plait/runtime/value.h"

namespace plait {

struct ForwardResult {
  Value output;  ///< for the next stage; null on the last stage, which keeps its loss
  Value saved;   ///< what the backward needs; null if it was not asked for
};

struct BackwardInputResult {
  Value input_gradient;    ///< for the stage before; null on stage 0
  Value saved_for_weight;  ///< what W needs; never null, even if nothing is left for W
  bool whole = false;  ///< this stage could not be split: I ran the whole B, W has nothing to do
};

/// A stage keeps nothing between calls but its parameters and their gradients: what lives from F to
/// B is in the values. All calls on the stages of one rank come from one thread at a time.
/// Errors, thrown or returned, end the step.
class Stage {
 public:
  virtual ~Stage() = default;
  /// `input` is null on stage 0, which takes its micro-batch from the batch of the step.
  virtual Expected<ForwardResult> forward(int microbatch, Value input, bool for_backward) = 0;
  /// `output_gradient` is null on the last stage.
  virtual Expected<BackwardInputResult> backward_input(int microbatch, Value saved,
                                                       Value output_gradient) = 0;
  virtual Expected<void> backward_weight(int microbatch, Value saved_for_weight) = 0;
  /// Whole backward; returns the input's gradient, null on stage 0.
  virtual Expected<Value> backward(int microbatch, Value saved, Value output_gradient) = 0;
};

}  // namespace plait
