/// AdamW, the learning rate's course, and the global norm of gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "plait/job/job_config.h"
#include "plait/torch/segment.h"
#include "plait/train/optimizer.h"

namespace plait {

/// Linear warm-up, then a cosine down to min_lr_share of lr at the last step. Steps count from 0.
double learning_rate(const OptimizerConfig& optimizer, int step, int steps);

/// Name and sum of squares of each gradient times `scale`, added in float64 in one fixed order, so
/// that the number does not depend on where the parameter lies.
std::vector<std::pair<std::string, double>> square_sums(const std::vector<Parameter>& parameters);

/// Root of the sum of all, added in order of names.
double global_norm(std::vector<std::pair<std::string, double>> sums);

/// Keeps two moments a parameter. Matrices decay, vectors do not. Element by element, so equal bits
/// wherever a parameter lies. Source: arXiv:1711.05101.
class AdamW final : public Optimizer {
 public:
  AdamW(std::vector<Parameter> parameters, const OptimizerConfig& config);
  /// `gradient_scale` multiplies every gradient first (clipping).
  void step(double learning_rate, double gradient_scale) override;
  /// optimizer.first and optimizer.second of each parameter, and optimizer.steps.
  TrainState state() override;

 private:
  std::vector<Parameter> parameters_;
  OptimizerConfig config_;
  std::vector<at::Tensor> first_;
  std::vector<at::Tensor> second_;
  std::int64_t steps_ = 0;
};

}  // namespace plait
