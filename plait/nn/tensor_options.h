/// Where every tensor of a model is made: its dtype from model/dtypes.h, its device from here.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/TensorOptions.h>

#include "plait/model/dtypes.h"
#include "plait/torch/dtypes.h"

namespace plait {

/// The rank's device; the CPU until there is another.
inline at::TensorOptions options_of(Dtype dtype) {
  return at::TensorOptions().dtype(scalar_type_of(dtype)).device(at::kCPU);
}

}  // namespace plait
