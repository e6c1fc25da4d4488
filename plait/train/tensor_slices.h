/// Torch's tensors as slices of the training state.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "plait/torch/segment.h"
#include "plait/train/train_state.h"

namespace plait {

/// "F32", "I64", …: a dtype as safetensors calls it.
std::string dtype_name(const at::Tensor& tensor);

/// The whole of a contiguous tensor on the CPU, which outlives the slice.
StateSlice slice_of(std::string what, const Parameter& tensor);

/// A number, which outlives the slice.
StateSlice slice_of(std::string what, std::int64_t& number);

}  // namespace plait
