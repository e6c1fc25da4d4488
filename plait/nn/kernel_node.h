/// What the kernels' nodes of the graph have in common. Only for kernels' sources.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include "plait/torch/torch_version.h"

namespace plait::kernels {

using torch::autograd::collect_next_edges;
using torch::autograd::SavedVariable;
using torch::autograd::TraceableFunction;
using torch::autograd::variable_list;

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
