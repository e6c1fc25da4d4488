/// Parts of torch's tensors, and what they are in the training state.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "plait/train/train_state.h"

namespace plait {

/// "F32", "I64", …: a dtype as safetensors calls it.
std::string dtype_name(const at::Tensor& tensor);

/// Neighbouring numbers of one tensor.
struct TensorSlice {
  std::string name;
  std::vector<std::int64_t> shape;  ///< of the whole tensor
  std::int64_t first = 0;           ///< which of its numbers, row-major, is the first here
  at::Tensor numbers;               ///< of any shape
};

/// All numbers of a tensor.
TensorSlice whole_tensor(std::string name, const at::Tensor& numbers);

/// Contiguous numbers on the CPU, which outlive the slice of the state.
StateSlice slice_of(std::string what, const TensorSlice& slice);

/// A number, which outlives the slice.
StateSlice slice_of(std::string what, std::int64_t& number);

}  // namespace plait
