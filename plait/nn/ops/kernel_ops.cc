#include "plait/nn/ops/kernel_ops.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/Exception.h>

#include <cmath>

namespace plait {
namespace {

namespace kernels = gpu_kernels;

kernels::Number number_of(const at::Tensor& x) {
  TORCH_CHECK(x.is_contiguous(), "needs a contiguous tensor, got one of ", x.sizes());
  if (x.scalar_type() == at::kFloat) return kernels::Number::kFloat32;
  TORCH_CHECK(x.scalar_type() == at::kBFloat16, "needs float32 or bfloat16, got ", x.scalar_type());
  return kernels::Number::kBFloat16;
}

/// Checks that a kernel may read it beside x.
const at::Tensor& beside(const at::Tensor& x, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.device() == x.device() && tensor.is_contiguous(),
              "needs contiguous tensors on ", x.device(), ", got one of ", tensor.sizes(), " on ",
              tensor.device());
  return tensor;
}
/// Of x's dtype.
const void* data_as(const at::Tensor& x, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.scalar_type() == x.scalar_type(), "needs tensors of one dtype, got ",
              x.scalar_type(), " and ", tensor.scalar_type());
  return beside(x, tensor).const_data_ptr();
}
const float* floats(const at::Tensor& x, const at::Tensor& tensor) {
  return beside(x, tensor).const_data_ptr<float>();
}
const std::int64_t* places_of(const at::Tensor& x, const at::Tensor& tensor) {
  return beside(x, tensor).const_data_ptr<std::int64_t>();
}
at::Tensor floats_like(at::IntArrayRef sizes, const at::Tensor& x) {
  return at::empty(sizes, x.options().dtype(at::kFloat));
}

}  // namespace

Ops::Normed KernelOps::rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) const {
  const std::int64_t columns = weight.numel(), rows = x.numel() / columns;
  Normed normed{at::empty_like(x), floats_like({rows}, x)};
  kernels::rms_norm(number_of(x), x.const_data_ptr(), floats(x, weight), eps, rows, columns,
                    normed.y.mutable_data_ptr(), normed.inverse.mutable_data_ptr<float>(),
                    stream_());
  return normed;
}

at::Tensor KernelOps::rms_norm_input(const at::Tensor& dy, const at::Tensor& x,
                                     const at::Tensor& weight, const at::Tensor& inverse) const {
  at::Tensor dx = at::empty_like(dy);
  kernels::rms_norm_input(number_of(dy), dy.const_data_ptr(), data_as(dy, x), floats(dy, weight),
                          floats(dy, inverse), inverse.numel(), weight.numel(),
                          dx.mutable_data_ptr(), stream_());
  return dx;
}

at::Tensor KernelOps::rms_norm_weight(const at::Tensor& dy, const at::Tensor& x,
                                      const at::Tensor& weight, const at::Tensor& inverse) const {
  const std::int64_t rows = inverse.numel(), columns = weight.numel();
  const at::Tensor partial = floats_like({kernels::weight_chunks(rows), columns}, dy);
  at::Tensor dw = floats_like(weight.sizes(), dy);
  kernels::rms_norm_weight(number_of(dy), dy.const_data_ptr(), data_as(dy, x), floats(dy, inverse),
                           rows, columns, partial.mutable_data_ptr<float>(),
                           dw.mutable_data_ptr<float>(), stream_());
  return dw.to(weight.scalar_type());
}

at::Tensor KernelOps::rotate(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine,
                             bool back) const {
  at::Tensor y = at::empty_like(x);
  kernels::rotate(number_of(x), x.const_data_ptr(), floats(x, cosine), floats(x, sine),
                  x.size(0) * x.size(1), x.size(1), x.size(2), x.size(3) / 2, back,
                  y.mutable_data_ptr(), stream_());
  return y;
}

at::Tensor KernelOps::swiglu(const at::Tensor& gate, const at::Tensor& up) const {
  at::Tensor y = at::empty_like(gate);
  kernels::swiglu(number_of(gate), gate.const_data_ptr(), data_as(gate, up), gate.numel(),
                  y.mutable_data_ptr(), stream_());
  return y;
}

at::Tensor KernelOps::swiglu_gate(const at::Tensor& dy, const at::Tensor& gate,
                                  const at::Tensor& up) const {
  at::Tensor dgate = at::empty_like(gate);
  kernels::swiglu_gate(number_of(gate), data_as(gate, dy), gate.const_data_ptr(), data_as(gate, up),
                       gate.numel(), dgate.mutable_data_ptr(), stream_());
  return dgate;
}

at::Tensor KernelOps::swiglu_up(const at::Tensor& dy, const at::Tensor& gate) const {
  at::Tensor dup = at::empty_like(gate);
  kernels::swiglu_up(number_of(gate), data_as(gate, dy), gate.const_data_ptr(), gate.numel(),
                     dup.mutable_data_ptr(), stream_());
  return dup;
}

at::Tensor KernelOps::masked(const at::Tensor& base, const at::Tensor& x,
                             const DropMask& mask) const {
  kernels::Mask draws{};
  draws.seed = mask.seed;
  draws.operation = mask.operation;
  draws.first = static_cast<std::uint64_t>(mask.first);
  draws.dropped = static_cast<std::uint64_t>(std::llround(mask.share * 0x1p32));
  draws.scale = static_cast<float>(1.0 / (1.0 - mask.share));
  at::Tensor y = at::empty_like(x);
  kernels::masked(number_of(x), base.defined() ? data_as(x, base) : nullptr, x.const_data_ptr(),
                  draws, x.numel(), y.mutable_data_ptr(), stream_());
  return y;
}

at::Tensor KernelOps::move_rows(const at::Tensor& rows, const at::Tensor& places, bool back) const {
  const std::int64_t count = places.numel(), columns = rows.size(1);
  at::Tensor moved = at::empty_like(rows);
  if (back) {
    kernels::gather_rows(number_of(rows), rows.const_data_ptr(), places_of(rows, places), count,
                         columns, moved.mutable_data_ptr(), stream_());
  } else {
    kernels::copy_rows(number_of(rows), rows.const_data_ptr(), places_of(rows, places), count, 1,
                       columns, moved.mutable_data_ptr(), stream_());
  }
  return moved;
}

at::Tensor KernelOps::copy_rows(const at::Tensor& h, const at::Tensor& inverse) const {
  at::Tensor rows = at::empty({inverse.numel(), h.size(1)}, h.options());
  kernels::copy_rows(number_of(h), h.const_data_ptr(), places_of(h, inverse), h.size(0),
                     inverse.numel() / h.size(0), h.size(1), rows.mutable_data_ptr(), stream_());
  return rows;
}

at::Tensor KernelOps::sum_rows(const at::Tensor& rows, const at::Tensor& inverse,
                               std::int64_t tokens) const {
  at::Tensor sums = at::empty({tokens, rows.size(1)}, rows.options());
  kernels::add_weighted_rows(number_of(rows), nullptr, rows.const_data_ptr(), nullptr,
                             places_of(rows, inverse), tokens, inverse.numel() / tokens,
                             rows.size(1), sums.mutable_data_ptr(), stream_());
  return sums;
}

at::Tensor KernelOps::add_weighted_rows(const at::Tensor& base, const at::Tensor& rows,
                                        const at::Tensor& weights,
                                        const at::Tensor& inverse) const {
  at::Tensor y = at::empty_like(base);
  kernels::add_weighted_rows(number_of(base), base.const_data_ptr(), data_as(base, rows),
                             floats(base, weights), places_of(base, inverse), base.size(0),
                             weights.size(-1), base.size(1), y.mutable_data_ptr(), stream_());
  return y;
}

at::Tensor KernelOps::spread_rows(const at::Tensor& dy, const at::Tensor& weights,
                                  const at::Tensor& inverse) const {
  at::Tensor rows = at::empty({inverse.numel(), dy.size(1)}, dy.options());
  kernels::spread_rows(number_of(dy), dy.const_data_ptr(), floats(dy, weights),
                       places_of(dy, inverse), dy.size(0), weights.size(-1), dy.size(1),
                       rows.mutable_data_ptr(), stream_());
  return rows;
}

at::Tensor KernelOps::row_products(const at::Tensor& dy, const at::Tensor& rows,
                                   const at::Tensor& weights, const at::Tensor& inverse) const {
  at::Tensor products = floats_like(weights.sizes(), dy);
  kernels::row_products(number_of(dy), dy.const_data_ptr(), data_as(dy, rows),
                        places_of(dy, inverse), dy.size(0), weights.size(-1), dy.size(1),
                        products.mutable_data_ptr<float>(), stream_());
  return products.to(weights.scalar_type());
}

}  // namespace plait
