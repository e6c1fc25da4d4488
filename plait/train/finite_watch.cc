#include "plait/train/finite_watch.h"

#include <fmt/core.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <utility>

#include "plait/base/finite.h"

namespace plait {
namespace {

bool is_finite(const at::Tensor& tensor) {
  const auto count = static_cast<std::size_t>(tensor.numel());
  const void* data = tensor.const_data_ptr();
  if (tensor.scalar_type() == at::kFloat) {
    return !has_exponent_of_ones(std::span(static_cast<const std::uint32_t*>(data), count),
                                 kFloatExponent);
  }
  return !has_exponent_of_ones(std::span(static_cast<const std::uint16_t*>(data), count),
                               kBfloat16Exponent);
}

/// Of a tensor that is not finite: the first such number.
double first_wrong(const at::Tensor& tensor) {
  const auto count = static_cast<std::size_t>(tensor.numel());
  if (tensor.scalar_type() == at::kFloat) {
    for (const float one : std::span(tensor.const_data_ptr<float>(), count))
      if (!std::isfinite(one)) return one;
  } else {
    for (const at::BFloat16 one : std::span(tensor.const_data_ptr<at::BFloat16>(), count))
      if (!std::isfinite(static_cast<float>(one))) return one;
  }
  return 0;
}

bool can_be_read(const at::Tensor& tensor) {
  return tensor.defined() && tensor.is_cpu() && tensor.is_contiguous() &&
         (tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kBFloat16);
}

}  // namespace

void FiniteWatch::add(NotFinite finding) {
  if (!found_ || finding.place() < found_->place()) found_ = std::move(finding);
}

void FiniteWatch::look(NotFinite::Phase phase, int microbatch, int stage, const std::string& what,
                       const std::vector<at::Tensor>& tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!can_be_read(tensors[i]) || is_finite(tensors[i])) continue;
    add({phase, first_microbatch_ + microbatch, stage,
         fmt::format("tensor {} of {} is {}", i, what,
                     name_of_not_finite(first_wrong(tensors[i])))});
    return;
  }
}

void FiniteWatch::look_at_loss(int microbatch, int stage, double loss) {
  if (!std::isfinite(loss)) {
    add({NotFinite::Phase::kLoss, first_microbatch_ + microbatch, stage,
         fmt::format("loss is {}", name_of_not_finite(loss))});
  }
}

void FiniteWatch::look_at_gradient(const SquareSums& sums) {
  for (const double sum : sums.sums) {
    if (std::isfinite(sum)) continue;
    add({NotFinite::Phase::kGradient, -1, -1,
         fmt::format("the gradient of {} is {}", sums.name,
                     std::isnan(sum) ? "nan" : "inf, or its square is")});
    return;
  }
}

}  // namespace plait
