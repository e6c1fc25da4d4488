/// The operations of ops.h by CUDA kernels of our own: norms, positions, gates, dropout and the
/// rows of a mixture. The router, of few numbers, stays with torch's functions.
#pragma once

#include "plait/nn/ops/generic.h"
#include "plait/nn/ops/gpu_kernels.h"

namespace plait {

/// float32 and bfloat16. Weights, factors, cosines and routers' weights are float32.
class KernelOps final : public GenericOps {
 public:
  /// `stream`: the one that the calling thread's work goes to.
  explicit KernelOps(gpu_kernels::Stream (*stream)()) : stream_(stream) {}

  Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) const override;
  at::Tensor rms_norm_input(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& inverse) const override;
  at::Tensor rms_norm_weight(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& inverse) const override;
  at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine,
                    bool back) const override;
  at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) const override;
  at::Tensor swiglu_gate(const at::Tensor& dy, const at::Tensor& gate,
                         const at::Tensor& up) const override;
  at::Tensor swiglu_up(const at::Tensor& dy, const at::Tensor& gate) const override;
  at::Tensor masked(const at::Tensor& base, const at::Tensor& x,
                    const DropMask& mask) const override;
  at::Tensor move_rows(const at::Tensor& rows, const at::Tensor& places, bool back) const override;
  at::Tensor copy_rows(const at::Tensor& h, const at::Tensor& inverse) const override;
  at::Tensor sum_rows(const at::Tensor& rows, const at::Tensor& inverse,
                      std::int64_t tokens) const override;
  at::Tensor add_weighted_rows(const at::Tensor& base, const at::Tensor& rows,
                               const at::Tensor& weights, const at::Tensor& inverse) const override;
  at::Tensor spread_rows(const at::Tensor& dy, const at::Tensor& weights,
                         const at::Tensor& inverse) const override;
  at::Tensor row_products(const at::Tensor& dy, const at::Tensor& rows, const at::Tensor& weights,
                          const at::Tensor& inverse) const override;

 private:
  gpu_kernels::Stream (*stream_)();
};

}  // namespace plait
