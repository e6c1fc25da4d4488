/// A stage of the executor made of torch segments.
#pragma once

#include <memory>
#include <vector>

#include "plait/runtime/stage.h"
#include "plait/runtime/torch/segment.h"

namespace plait {

/// The losses of the micro-batches of one step. Written by the rank that holds the last stage, on
/// its compute lane; read when the step has ended. Not thread-safe.
class LossSink {
 public:
  void reset(int microbatches);
  void record(int microbatch, double loss);
  /// In order of micro-batches; NaN where none was recorded.
  const std::vector<double>& losses() const { return losses_; }
  /// Sum in order of micro-batches, divided once.
  double mean() const;

 private:
  std::vector<double> losses_;
};

/// Segments run in order. What one returns is detached, contiguous and a new leaf for the next, so
/// no graph crosses a boundary. Parameters accumulate unscaled into .grad (allocate it before for
/// in-place accumulation). Exceptions of torch become errors that name the segment. An in-place
/// change of a boundary tensor, a loss that is not a scalar or not finite (kNotFinite) are errors.
/// If one segment cannot be split, the whole stage runs as B at its I.
class TorchStage final : public Stage {
 public:
  /// `losses` for the last stage, whose last segment returns the scalar loss; null for others.
  explicit TorchStage(std::vector<std::shared_ptr<Segment>> segments,
                      std::shared_ptr<LossSink> losses = nullptr);

  Expected<ForwardResult> forward(int microbatch, Value input, bool for_backward) override;
  Expected<BackwardInputResult> backward_input(int microbatch, Value saved,
                                               Value output_gradient) override;
  Expected<void> backward_weight(int microbatch, Value saved_for_weight) override;
  Expected<Value> backward(int microbatch, Value saved, Value output_gradient) override;

  /// Of all segments, in order.
  std::vector<Parameter> parameters() const;

 private:
  std::vector<std::shared_ptr<Segment>> segments_;
  std::shared_ptr<LossSink> losses_;
};

}  // namespace plait
