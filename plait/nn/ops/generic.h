/// The operations of ops.h by torch's functions, for every dtype and device.
#pragma once

#include "plait/nn/ops/ops.h"

namespace plait {

class GenericOps : public Ops {
 public:
  Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) const override;
  at::Tensor rms_norm_input(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& inverse) const override;
  at::Tensor rms_norm_weight(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& inverse) const override;
  at::Tensor add_bias(const at::Tensor& x, const at::Tensor& bias) const override;
  at::Tensor bias_gradient(const at::Tensor& dy, std::int64_t columns) const override;
  at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine,
                    bool back) const override;
  at::Tensor masked(const at::Tensor& base, const at::Tensor& x,
                    const DropMask& mask) const override;
  at::Tensor choose(const at::Tensor& scores, const at::Tensor& bias,
                    std::int64_t k) const override;
  Places place(const at::Tensor& chosen, std::int64_t experts) const override;
  at::Tensor weigh(const at::Tensor& scores, const at::Tensor& chosen,
                   const RouterOptions& options) const override;
  at::Tensor router_gradient(const at::Tensor& dweights, const at::Tensor& scores,
                             const at::Tensor& chosen, const at::Tensor& loads,
                             const RouterOptions& options) const override;
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
  at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) const override;
  at::Tensor swiglu_gate(const at::Tensor& dy, const at::Tensor& gate,
                         const at::Tensor& up) const override;
  at::Tensor swiglu_up(const at::Tensor& dy, const at::Tensor& gate) const override;
};

}  // namespace plait
