/// Operations of the Llama shape, on CPUs faster than torch's compositions of them.
///
/// Each is one node of the graph. A node with a parameter computes only the half of its gradients
/// that is asked for, so that I and W split it like torch's own. Dtypes and devices: nn/ops/ops.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "plait/model/model_config.h"
#include "plait/torch/segment.h"

namespace plait {

/// x matrix^T, as x. A matrix of another dtype, such as a master in float32 beside hidden states in
/// bfloat16, is used rounded to x's: its `rounded` copy, or one for each use if it has none. Its
/// gradient has the matrix's dtype, on a GPU without rounding to x's before.
at::Tensor matrix_product(const at::Tensor& x, const Parameter& matrix);
/// base + x matrix^T.
at::Tensor add_matrix_product(const at::Tensor& base, const at::Tensor& x, const Parameter& matrix);

/// In float32 if x's numbers are narrower, else x.
at::Tensor widened(const at::Tensor& x);

/// x / sqrt(mean(x²) + eps) * weight over the last dimension.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

/// x + bias, one number for each column of the last dimension. The bias's gradient is a sum over
/// rows in an order that no number of threads changes.
at::Tensor add_bias(const at::Tensor& x, const at::Tensor& bias);

/// Cosines and sines of the rotary positions, [length, head_size / 2] each.
struct RotaryTable {
  at::Tensor cosine, sine;
};
/// Frequencies are scaled by Hugging Face's formula (model/model_config.h), in float32 as theirs.
RotaryTable make_rotary_table(std::int64_t length, std::int64_t head_size, double theta,
                              const RopeScaling& scaling = {});

/// Rotary positions in Hugging Face's convention, x cos + rotate_half(x) sin: the first half of a
/// head pairs with the second. x: [sequences, length, heads, head_size], length at most the
/// table's.
at::Tensor rotate(const at::Tensor& x, const RotaryTable& table);

/// silu(gate) * up. Saves both, computes silu(gate) again in the backward.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace plait
