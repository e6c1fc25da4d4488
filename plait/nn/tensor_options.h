/// Where every tensor of a model is made: its dtype from model/dtypes.h, its device from here.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/TensorOptions.h>

#include "plait/model/dtypes.h"
#include "plait/torch/dtypes.h"

namespace plait {

/// `device`: the rank's.
inline at::TensorOptions options_of(Dtype dtype, at::Device device = at::kCPU) {
  return at::TensorOptions().dtype(scalar_type_of(dtype)).device(device);
}

}  // namespace plait
