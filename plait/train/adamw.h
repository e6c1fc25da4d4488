/// AdamW, and the learning rate's course.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "plait/job/job_config.h"
#include "plait/train/optimizer.h"

namespace plait {

/// Linear warm-up, then a cosine down to min_lr_share of lr at the last step. Steps count from 0.
double learning_rate(const OptimizerConfig& optimizer, int step, int steps);

/// Keeps two moments a parameter. Matrices decay, vectors do not. Element by element, so equal bits
/// on whichever rank a number lies. float32 on the CPU by a loop of our own, other parameters by
/// torch's fused kernel. Source: arXiv:1711.05101.
class AdamW final : public Optimizer {
 public:
  AdamW(const std::vector<TrainedSlice>& slices, const OptimizerConfig& config);
  /// `gradient_scale` multiplies every gradient first (clipping).
  void step(const std::vector<TrainedSlice>& slices, double learning_rate,
            double gradient_scale) override;
  /// optimizer.first and optimizer.second of each slice, and optimizer.steps.
  TrainState state(const std::vector<TrainedSlice>& slices) override;

 private:
  /// One slice and its moments.
  struct Numbers {
    const TrainedSlice& slice;
    at::Tensor& first;
    at::Tensor& second;
  };
  double decay(const TrainedSlice& slice) const {
    return slice.shape.size() >= 2 ? config_.weight_decay : 0;
  }
  void update(const Numbers& numbers, double rate, double gradient_scale) const;
  /// `steps`: steps_, on the tensor's device.
  void update_generic(const Numbers& numbers, double rate, double gradient_scale,
                      const at::Tensor& steps) const;

  OptimizerConfig config_;
  std::vector<at::Tensor> first_;
  std::vector<at::Tensor> second_;
  std::int64_t steps_ = 0;
};

}  // namespace plait
