#include "plait/train/adamw.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "plait/base/check.h"
#include "plait/train/tensor_slices.h"

namespace plait {
namespace {

std::size_t count_of(const at::Tensor& tensor) { return static_cast<std::size_t>(tensor.numel()); }

/// One step's numbers, and the loop over one parameter. Every operation in it is rounded by itself
/// (CMakeLists.txt forbids contraction), so the bits are those of any vector width; and without
/// errno the root is a vector instruction too.
struct Update {
  float scale = 1;
  float beta1 = 0;
  float beta2 = 0;
  float keep = 1;
  float step_size = 0;
  float correction = 1;
  float eps = 0;

  void run(float* __restrict value, const float* __restrict gradient, float* __restrict first,
           float* __restrict second, std::size_t count) const {
    for (std::size_t j = 0; j < count; ++j) {
      const float g = gradient[j] * scale;
      first[j] = beta1 * first[j] + (1 - beta1) * g;
      second[j] = beta2 * second[j] + (1 - beta2) * g * g;
      value[j] = keep * value[j] - step_size * first[j] / (std::sqrt(second[j]) * correction + eps);
    }
  }
};

}  // namespace

double learning_rate(const OptimizerConfig& optimizer, int step, int steps) {
  if (step < optimizer.warmup_steps) return optimizer.lr * (step + 1) / optimizer.warmup_steps;
  const int rest = std::max(1, steps - optimizer.warmup_steps);
  const double progress = std::min(1.0, static_cast<double>(step - optimizer.warmup_steps) / rest);
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return optimizer.lr * (optimizer.min_lr_share + (1 - optimizer.min_lr_share) * cosine);
}

namespace {

/// Eight sums that are added at the end: a fixed order that a compiler can make vectors of.
double square_sum(const at::Tensor& gradient) {
  if (!gradient.is_contiguous() || gradient.scalar_type() != at::kFloat) {
    // A module of the caller's own.
    const at::Tensor wide = gradient.to(at::kDouble);
    return (wide * wide).sum().item().toDouble();
  }
  const float* values = gradient.const_data_ptr<float>();
  std::array<double, 8> lanes{};
  const std::size_t count = count_of(gradient);
  for (std::size_t i = 0; i < count; ++i)
    lanes[i % 8] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

/// Of gradients on a GPU, read from it at once.
std::vector<double> square_sums_on_device(const std::vector<at::Tensor>& gradients) {
  if (gradients.empty()) return {};
  std::vector<at::Tensor> norms;
  for (const at::Tensor& gradient : gradients)
    norms.push_back(at::linalg_vector_norm(gradient, 2, std::nullopt, false, at::kDouble));
  const at::Tensor host = at::stack(norms).square_().cpu();
  const auto* first = host.const_data_ptr<double>();
  return {first, first + host.numel()};
}

}  // namespace

std::vector<std::pair<std::string, double>> square_sums(const std::vector<Parameter>& parameters) {
  std::vector<std::pair<std::string, double>> sums;
  std::vector<std::size_t> places;  // in `sums`, of those on a device
  std::vector<at::Tensor> on_device;
  for (const Parameter& parameter : parameters) {
    const at::Tensor& gradient = parameter.tensor.grad();
    PLAIT_CHECK(gradient.defined(), "gradients are allocated before the step");
    if (!gradient.is_cpu()) {
      places.push_back(sums.size());
      on_device.push_back(gradient);
    }
    sums.emplace_back(parameter.name, gradient.is_cpu() ? square_sum(gradient) : 0.0);
  }
  const std::vector<double> came = square_sums_on_device(on_device);
  for (std::size_t i = 0; i < came.size(); ++i) sums[places[i]].second = came[i];
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
  at::Tensor steps;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& tensor = parameters_[i].tensor;
    if (tensor.is_cpu() && tensor.scalar_type() == at::kFloat) {
      update(i, rate, gradient_scale);
      continue;
    }
    if (!steps.defined())
      steps = at::full({}, steps_, at::TensorOptions(at::kFloat).device(tensor.device()));
    update_generic(i, rate, gradient_scale, steps);
  }
}

void AdamW::update(std::size_t i, double rate, double gradient_scale) {
  const at::Tensor& tensor = parameters_[i].tensor;
  Update update;
  update.scale = static_cast<float>(gradient_scale);
  update.beta1 = static_cast<float>(config_.betas.first);
  update.beta2 = static_cast<float>(config_.betas.second);
  update.step_size =
      static_cast<float>(rate / (1 - std::pow(config_.betas.first, static_cast<double>(steps_))));
  update.correction = static_cast<float>(
      1 / std::sqrt(1 - std::pow(config_.betas.second, static_cast<double>(steps_))));
  update.eps = static_cast<float>(config_.eps);
  update.keep = static_cast<float>(1 - rate * decay(tensor));
  update.run(static_cast<float*>(tensor.data_ptr()), tensor.grad().const_data_ptr<float>(),
             first_[i].mutable_data_ptr<float>(), second_[i].mutable_data_ptr<float>(),
             count_of(tensor));
}

void AdamW::update_generic(std::size_t i, double rate, double gradient_scale,
                           const at::Tensor& steps) {
  const at::Tensor tensor = parameters_[i].tensor.detach();
  const at::Tensor& gradient = parameters_[i].tensor.grad();
  // The gradient itself stays as it is: it may be asked for.
  at::_fused_adamw_({tensor}, {gradient_scale == 1.0 ? gradient : gradient * gradient_scale},
                    {first_[i]}, {second_[i]}, {}, {steps}, rate, config_.betas.first,
                    config_.betas.second, decay(tensor), config_.eps, /*amsgrad=*/false,
                    /*maximize=*/false);
}

TrainState AdamW::state() {
  TrainState state;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    state.push_back(slice_of("optimizer.first", {parameters_[i].name, first_[i]}));
    state.push_back(slice_of("optimizer.second", {parameters_[i].name, second_[i]}));
  }
  state.push_back(slice_of("optimizer.steps", steps_));
  return state;
}

}  // namespace plait
