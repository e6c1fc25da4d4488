/// AdamW over a rank's parameters, and the global norm of the gradients of all ranks.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "plait/config/job_config.h"

namespace plait {

/// float32, contiguous, of one shape. A tied weight appears once, its uses' gradients added before.
struct OptimisedParameter {
  std::string name;
  at::Tensor value;
  at::Tensor gradient;
};

/// Divides each gradient by the number of micro-batches, in place: once a step.
void divide_gradients(const std::vector<OptimisedParameter>& parameters, int microbatches);

/// The sum of the squares of each gradient, in float64 and in an order that depends on nothing but
/// its size: the same bits for every schedule, rank count and thread count. One per parameter, as
/// given. Cost: one read of the gradients.
std::vector<std::pair<std::string, double>> square_sums(
    const std::vector<OptimisedParameter>& parameters);

/// The root of the sum over all ranks' parameters, added in the order of names. NaN or infinite if
/// a gradient is.
double global_norm(std::vector<std::pair<std::string, double>> all);

/// What gradients are multiplied by: clip_norm / norm if the norm is larger, else 1; 1 also if
/// clip_norm is 0.
double clip_factor(double norm, double clip_norm);

/// Decoupled weight decay, on tensors of two or more dimensions only. Source: arXiv:1711.05101.
/// Allocates two moments per parameter at construction. Each parameter's bits depend on its own
/// values and gradients only. Not thread-safe.
class AdamW {
 public:
  AdamW(std::vector<OptimisedParameter> parameters, const OptimizerConfig& config);

  /// value -= lr * (m / (sqrt(v) + eps) + weight_decay * value) with bias-corrected moments m, v of
  /// gradient * factor. Leaves the gradients as they are.
  void step(double lr, double factor);

 private:
  struct Moments {
    at::Tensor first;
    at::Tensor second;
  };
  std::vector<OptimisedParameter> parameters_;
  std::vector<Moments> moments_;
  OptimizerConfig config_;
  long steps_ = 0;
};

}  // namespace plait
