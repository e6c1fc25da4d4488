/// AdamW, the learning rate's course, and the global norm of gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "plait/job/job_config.h"
#include "plait/torch/segment.h"
#include "plait/train/optimizer.h"

namespace plait {

/// Linear warm-up, then a cosine down to min_lr_share of lr at the last step. Steps count from 0.
double learning_rate(const OptimizerConfig& optimizer, int step, int steps);

/// Name and sum of squares of each gradient, added in float64 in one fixed order, so that the
/// number does not depend on the rank that the parameter lies on. Of gradients on a GPU, the host
/// waits once.
std::vector<std::pair<std::string, double>> square_sums(const std::vector<Parameter>& parameters);

/// Root of the sum of all, added in order of names.
double global_norm(std::vector<std::pair<std::string, double>> sums);

/// Keeps two moments a parameter. Matrices decay, vectors do not. Element by element, so equal bits
/// on whichever rank a parameter lies. float32 on the CPU by a loop of our own, other parameters by
/// torch's fused kernel. Source: arXiv:1711.05101.
class AdamW final : public Optimizer {
 public:
  AdamW(std::vector<Parameter> parameters, const OptimizerConfig& config);
  /// `gradient_scale` multiplies every gradient first (clipping).
  void step(double learning_rate, double gradient_scale) override;
  /// optimizer.first and optimizer.second of each parameter, and optimizer.steps.
  TrainState state() override;

 private:
  double decay(const at::Tensor& tensor) const {
    return tensor.dim() >= 2 ? config_.weight_decay : 0;
  }
  void update(std::size_t i, double rate, double gradient_scale);
  /// `steps`: steps_, on the tensor's device.
  void update_generic(std::size_t i, double rate, double gradient_scale, const at::Tensor& steps);

  std::vector<Parameter> parameters_;
  OptimizerConfig config_;
  std::vector<at::Tensor> first_;
  std::vector<at::Tensor> second_;
  std::int64_t steps_ = 0;
};

}  // namespace plait
