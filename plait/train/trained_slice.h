/// What an optimiser updates: parameters, or parts of them where replicas are sharded.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "plait/torch/segment.h"
#include "plait/train/tensor_slices.h"

namespace plait {

/// Neighbouring numbers of one parameter: all of them, or some of its chunks (shard_layout.h).
struct TrainedSlice {
  std::string name;
  std::vector<std::int64_t> shape;  ///< of the whole parameter
  std::int64_t first = 0;           ///< which of its numbers, row-major, is the first here
  /// Of one length, flat and contiguous, without a graph. `value` is written in place.
  at::Tensor value, gradient;
  bool speaks = true;  ///< of all ranks that hold these numbers this is the one that reports them

  /// Numbers that belong to these one by one, such as the gradient or a moment.
  TensorSlice beside(const at::Tensor& numbers) const { return {name, shape, first, numbers}; }
};

/// The whole of a contiguous parameter that has a gradient, which is made contiguous.
TrainedSlice whole_slice(const Parameter& parameter, bool speaks);

}  // namespace plait
