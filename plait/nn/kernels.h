/// Operations of the Llama shape that torch lacks or is slow at.
#pragma once

#include <ATen/core/Tensor.h>

namespace plait {

/// x / sqrt(mean(x²) + eps) * weight over the last dimension.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

/// Angles of the rotary positions, [length, head_size] each, in Hugging Face's convention: the
/// first half of a head pairs with the second. `signed_sine` is negative in the first half.
struct RotaryTable {
  at::Tensor cosine, signed_sine;
};
RotaryTable make_rotary_table(std::int64_t length, std::int64_t head_size, double theta);

/// x cos + rotate_half(x) sin. x: [sequences, length, heads, head_size], length at most the
/// table's.
at::Tensor rotate(const at::Tensor& x, const RotaryTable& table);

/// silu(gate) * up.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace plait
