#include "plait/nn/dropout.h"

#include <ATen/ops/add.h>
#include <c10/core/GradMode.h>

#include <string>

#include "plait/nn/kernel_node.h"
#include "plait/nn/ops/ops.h"

namespace plait {
namespace {

using kernels::TraceableFunction;
using kernels::variable_list;

/// The low half of the counter says which four numbers of the batch, the high half step, layer and
/// branch, so that no two numbers of a run share a draw.
DropMask mask_of(const MaskKey& key, double share) {
  const std::uint64_t operation = 2 * static_cast<std::uint64_t>(key.layer) +
                                  static_cast<std::uint64_t>(key.branch == Branch::kMlp);
  return {key.seed, static_cast<std::uint64_t>(key.step) << 32 | operation, key.first, share};
}

struct AddDroppedBackward final : public TraceableFunction {
  using TraceableFunction::TraceableFunction;
  DropMask mask;

  std::string name() const override { return "PlaitAddDroppedBackward"; }
  variable_list apply(variable_list&& gradients) override {
    variable_list result(2);
    if (!gradients[0].defined()) return result;
    if (task_should_compute_output(0)) result[0] = gradients[0];
    if (task_should_compute_output(1)) {
      const at::Tensor above = gradients[0].contiguous();
      result[1] = ops_for(above).masked({}, above, mask);
    }
    return result;
  }
};

}  // namespace

at::Tensor add_dropped(const at::Tensor& base, const at::Tensor& x, double share, MaskKey key) {
  TORCH_CHECK(base.is_contiguous() && x.is_contiguous() && base.sizes() == x.sizes(),
              "add_dropped needs contiguous tensors of one shape, got ", base.sizes(), " and ",
              x.sizes());
  TORCH_CHECK(share >= 0.0 && share < 1.0, "add_dropped needs a share from 0 to below 1, got ",
              share);
  const DropMask mask = mask_of(key, share);
  at::Tensor y;
  {
    const c10::AutoGradMode no_graph(false);
    y = ops_for(x).masked(base, x, mask);
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
