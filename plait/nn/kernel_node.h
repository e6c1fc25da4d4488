/// What the kernels' nodes of the graph have in common. Only for kernels' sources.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <algorithm>
#include <cstdint>

#include "plait/torch/torch_version.h"

namespace plait::kernels {

using torch::autograd::collect_next_edges;
using torch::autograd::SavedVariable;
using torch::autograd::TraceableFunction;
using torch::autograd::variable_list;

inline const float* numbers(const at::Tensor& tensor) {
  return static_cast<const float*>(tensor.const_data_ptr());
}
inline float* mutable_numbers(const at::Tensor& tensor) {
  return static_cast<float*>(tensor.data_ptr());
}

/// Rows a thread takes at least, when intra-op threads share the work: about 32,768 numbers.
inline std::int64_t row_grain(std::int64_t columns) {
  return std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(1, columns));
}

inline void check_float(const at::Tensor& tensor, const char* what) {
  TORCH_CHECK(tensor.is_cpu() && tensor.scalar_type() == at::kFloat, what,
              " needs float32 on the CPU, got ", tensor.scalar_type(), " on ", tensor.device());
}

/// Marks `result` as made by a new node that saves what `save` gives it; nothing if no gradient is
/// asked for.
template <typename NodeType, typename Save, typename... Inputs>
void record(const at::Tensor& result, const Save& save, const Inputs&... inputs) {
  if (!torch::autograd::compute_requires_grad(inputs...)) return;
  auto node = make_node<NodeType>();
  node->set_next_edges(collect_next_edges(inputs...));
  save(*node);
  torch::autograd::set_history(result, node);
}

}  // namespace plait::kernels
