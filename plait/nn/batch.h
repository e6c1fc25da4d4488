/// The tokens of one step, split into micro-batches.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace plait {

/// Per micro-batch: int64 [sequences, sequence_length], contiguous.
struct Batch {
  std::vector<at::Tensor> tokens;
  std::vector<at::Tensor> targets;
};

/// Where the embedding and the head find the batch. Filled before a step, read-only during it.
struct BatchSlot {
  Batch batch;
};

}  // namespace plait
