#include "plait/nn/dropout.h"

#include <ATen/Parallel.h>
#include <ATen/core/PhiloxRNGEngine.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "plait/nn/kernel_node.h"

namespace plait {
namespace {

using kernels::check_float;
using kernels::mutable_numbers;
using kernels::numbers;
using kernels::TraceableFunction;
using kernels::variable_list;

/// A mask as it is drawn: 0 for what is dropped, else the scale.
struct Mask {
  MaskKey key;
  double share = 0.0;

  /// factors[i] for number `begin` + i of the tensor. Philox4x32-10 with the seed as its key; of
  /// its counter the low half says which four numbers of the batch, the high half step, layer and
  /// branch, so that no two numbers of a run share a draw.
  void draw(std::int64_t begin, std::int64_t count, float* factors) const {
    const auto scale = static_cast<float>(1.0 / (1.0 - share));
    const auto dropped = static_cast<std::uint64_t>(std::llround(share * 0x1p32));
    const auto place = static_cast<std::uint64_t>(key.first + begin);
    const std::uint64_t operation = 2 * static_cast<std::uint64_t>(key.layer) +
                                    static_cast<std::uint64_t>(key.branch == Branch::kMlp);
    at::Philox4_32 generator(key.seed, static_cast<std::uint64_t>(key.step) << 32 | operation,
                             place / 4);
    for (std::uint64_t i = 0; i < place % 4; ++i) generator();
    for (std::int64_t i = 0; i < count; ++i) factors[i] = generator() < dropped ? 0.0f : scale;
  }
};

/// y = base + x * mask, without `base` x * mask.
at::Tensor masked(const float* base, const at::Tensor& x, const Mask& mask) {
  at::Tensor y = at::empty_like(x);
  float* out = mutable_numbers(y);
  const float* in = numbers(x);
  constexpr std::int64_t kGrain = 16384;
  at::parallel_for(0, x.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::array<float, 1024> factors;
    const auto most = static_cast<std::int64_t>(factors.size());
    for (std::int64_t at = begin; at < end; at += most) {
      const std::int64_t count = std::min(most, end - at);
      mask.draw(at, count, factors.data());
      for (std::int64_t i = 0; i < count; ++i) {
        const float kept = in[at + i] * factors[static_cast<std::size_t>(i)];
        out[at + i] = base == nullptr ? kept : base[at + i] + kept;
      }
    }
  });
  return y;
}

struct AddDroppedBackward final : public TraceableFunction {
  using TraceableFunction::TraceableFunction;
  Mask mask;

  std::string name() const override { return "PlaitAddDroppedBackward"; }
  variable_list apply(variable_list&& gradients) override {
    variable_list result(2);
    if (!gradients[0].defined()) return result;
    if (task_should_compute_output(0)) result[0] = gradients[0];
    if (task_should_compute_output(1)) result[1] = masked(nullptr, gradients[0].contiguous(), mask);
    return result;
  }
};

}  // namespace

at::Tensor add_dropped(const at::Tensor& base, const at::Tensor& x, double share, MaskKey key) {
  check_float(base, "add_dropped");
  check_float(x, "add_dropped");
  TORCH_CHECK(base.is_contiguous() && x.is_contiguous() && base.sizes() == x.sizes(),
              "add_dropped needs contiguous tensors of one shape, got ", base.sizes(), " and ",
              x.sizes());
  TORCH_CHECK(share >= 0.0 && share < 1.0, "add_dropped needs a share from 0 to below 1, got ",
              share);
  const Mask mask{key, share};
  at::Tensor y;
  {
    const c10::AutoGradMode no_graph(false);
    y = masked(numbers(base), x, mask);
  }
  kernels::record<AddDroppedBackward>(
      y, [&](AddDroppedBackward& node) { node.mask = mask; }, base, x);
  return y;
}

at::Tensor Dropout::add(const at::Tensor& base, const at::Tensor& x, int microbatch) const {
  if (!drops()) return at::add(base, x);
  const BatchDraws& draws = *batch_->batch.draws;
  const std::int64_t token = draws.first_tokens.at(static_cast<std::size_t>(microbatch));
  return add_dropped(base, x, share_,
                     {draws.seed, draws.step, layer_, branch_, token * x.size(-1)});
}

}  // namespace plait
