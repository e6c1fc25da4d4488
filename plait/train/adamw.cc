#include "plait/train/adamw.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "plait/base/check.h"
#include "plait/train/tensor_slices.h"

namespace plait {
namespace {

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

AdamW::AdamW(const std::vector<TrainedSlice>& slices, const OptimizerConfig& config)
    : config_(config) {
  for (const TrainedSlice& slice : slices) {
    first_.push_back(at::zeros_like(slice.value));
    second_.push_back(at::zeros_like(slice.value));
  }
}

void AdamW::step(const std::vector<TrainedSlice>& slices, double rate, double gradient_scale) {
  PLAIT_CHECK(slices.size() == first_.size(), "the slices that the optimiser was made with");
  ++steps_;
  at::Tensor steps;
  for (std::size_t i = 0; i < slices.size(); ++i) {
    const Numbers numbers{slices[i], first_[i], second_[i]};
    const at::Tensor& value = slices[i].value;
    if (value.is_cpu() && value.scalar_type() == at::kFloat) {
      update(numbers, rate, gradient_scale);
      continue;
    }
    if (!steps.defined())
      steps = at::full({}, steps_, at::TensorOptions(at::kFloat).device(value.device()));
    update_generic(numbers, rate, gradient_scale, steps);
  }
}

void AdamW::update(const Numbers& numbers, double rate, double gradient_scale) const {
  const TrainedSlice& slice = numbers.slice;
  Update update;
  update.scale = static_cast<float>(gradient_scale);
  update.beta1 = static_cast<float>(config_.betas.first);
  update.beta2 = static_cast<float>(config_.betas.second);
  update.step_size =
      static_cast<float>(rate / (1 - std::pow(config_.betas.first, static_cast<double>(steps_))));
  update.correction = static_cast<float>(
      1 / std::sqrt(1 - std::pow(config_.betas.second, static_cast<double>(steps_))));
  update.eps = static_cast<float>(config_.eps);
  update.keep = static_cast<float>(1 - rate * decay(slice));
  update.run(static_cast<float*>(slice.value.data_ptr()), slice.gradient.const_data_ptr<float>(),
             numbers.first.mutable_data_ptr<float>(), numbers.second.mutable_data_ptr<float>(),
             static_cast<std::size_t>(slice.value.numel()));
}

void AdamW::update_generic(const Numbers& numbers, double rate, double gradient_scale,
                           const at::Tensor& steps) const {
  const at::Tensor& gradient = numbers.slice.gradient;
  // The gradient itself stays as it is: it may be asked for.
  at::_fused_adamw_({numbers.slice.value},
                    {gradient_scale == 1.0 ? gradient : gradient * gradient_scale}, {numbers.first},
                    {numbers.second}, {}, {steps}, rate, config_.betas.first, config_.betas.second,
                    decay(numbers.slice), config_.eps, /*amsgrad=*/false,
                    /*maximize=*/false);
}

TrainState AdamW::state(const std::vector<TrainedSlice>& slices) {
  TrainState state;
  for (std::size_t i = 0; i < slices.size(); ++i) {
    state.push_back(slice_of("optimizer.first", slices[i].beside(first_[i])));
    state.push_back(slice_of("optimizer.second", slices[i].beside(second_[i])));
    for (StateSlice& one : std::span(state).last(2)) one.speaks = slices[i].speaks;
  }
  state.push_back(slice_of("optimizer.steps", steps_));
  return state;
}

}  // namespace plait
