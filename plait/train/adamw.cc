#include "plait/train/adamw.h"

#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "plait/base/check.h"

namespace plait {
namespace {

std::size_t count_of(const at::Tensor& tensor) { return static_cast<std::size_t>(tensor.numel()); }

}  // namespace

double learning_rate(const OptimizerConfig& optimizer, int step, int steps) {
  if (step < optimizer.warmup_steps) return optimizer.lr * (step + 1) / optimizer.warmup_steps;
  const int rest = std::max(1, steps - optimizer.warmup_steps);
  const double progress = std::min(1.0, static_cast<double>(step - optimizer.warmup_steps) / rest);
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return optimizer.lr * (optimizer.min_lr_share + (1 - optimizer.min_lr_share) * cosine);
}

std::vector<std::pair<std::string, double>> square_sums(const std::vector<Parameter>& parameters) {
  std::vector<std::pair<std::string, double>> sums;
  for (const Parameter& parameter : parameters) {
    const at::Tensor& gradient = parameter.tensor.grad();
    PLAIT_CHECK(gradient.defined() && gradient.is_contiguous(),
                "gradients are allocated before the step");
    const float* values = gradient.const_data_ptr<float>();
    // Eight sums that are added at the end: a fixed order that a compiler can make vectors of.
    std::array<double, 8> lanes{};
    const std::size_t count = count_of(gradient);
    for (std::size_t i = 0; i < count; ++i)
      lanes[i % 8] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    double sum = 0;
    for (const double lane : lanes) sum += lane;
    sums.emplace_back(parameter.name, sum);
  }
  return sums;
}

double global_norm(std::vector<std::pair<std::string, double>> sums) {
  std::sort(sums.begin(), sums.end());
  double sum = 0;
  for (const auto& [name, square_sum] : sums) sum += square_sum;
  return std::sqrt(sum);
}

AdamW::AdamW(std::vector<Parameter> parameters, const OptimizerConfig& config)
    : parameters_(std::move(parameters)), config_(config) {
  for (const Parameter& parameter : parameters_) {
    first_.push_back(at::zeros_like(parameter.tensor));
    second_.push_back(at::zeros_like(parameter.tensor));
  }
}

void AdamW::step(double rate, double gradient_scale) {
  ++steps_;
  const auto beta1 = static_cast<float>(config_.betas.first);
  const auto beta2 = static_cast<float>(config_.betas.second);
  const auto step_size = static_cast<float>(rate / (1 - std::pow(config_.betas.first, steps_)));
  const auto root_of_correction =
      static_cast<float>(std::sqrt(1 - std::pow(config_.betas.second, steps_)));
  const auto eps = static_cast<float>(config_.eps);
  const auto scale = static_cast<float>(gradient_scale);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& tensor = parameters_[i].tensor;
    const double decay = tensor.dim() >= 2 ? config_.weight_decay : 0;
    const auto keep = static_cast<float>(1 - rate * decay);
    auto* value = static_cast<float*>(tensor.data_ptr());
    const float* gradient = tensor.grad().const_data_ptr<float>();
    float* first = first_[i].mutable_data_ptr<float>();
    float* second = second_[i].mutable_data_ptr<float>();
    const std::size_t count = count_of(tensor);
    for (std::size_t j = 0; j < count; ++j) {
      const float g = gradient[j] * scale;
      first[j] = beta1 * first[j] + (1 - beta1) * g;
      second[j] = beta2 * second[j] + (1 - beta2) * g * g;
      value[j] = keep * value[j] -
                 step_size * first[j] / (std::sqrt(second[j]) / root_of_correction + eps);
    }
  }
}

}  // namespace plait
