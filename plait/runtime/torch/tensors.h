/// A list of tensors as a Value of the runtime.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

#include "plait/runtime/value.h"

namespace plait {

/// Contiguous, immutable tensors without graph: what crosses the boundary of segments and stages.
class Tensors final : public Payload {
 public:
  explicit Tensors(std::vector<at::Tensor> list) : tensors(std::move(list)) {}
  Bytes bytes() const override;

  std::vector<at::Tensor> tensors;
};

Value make_value(std::vector<at::Tensor> list);

}  // namespace plait
