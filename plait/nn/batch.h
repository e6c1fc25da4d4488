/// The tokens of one step, split into micro-batches.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace plait {

/// What a step that trains draws its random numbers from, beside layer and operation.
struct BatchDraws {
  std::uint64_t seed = 0;
  int step = 0;                            ///< from 0
  std::vector<std::int64_t> first_tokens;  ///< by micro-batch: its place in the step's whole batch
};

/// Per micro-batch: int64 [sequences, sequence_length], contiguous.
struct Batch {
  std::vector<at::Tensor> tokens;
  std::vector<at::Tensor> targets;
  std::optional<BatchDraws> draws{};  ///< none: nothing is drawn, as in validation
};

/// Where the embedding, the head and dropout find the batch. Filled before a step, read-only during
/// it.
struct BatchSlot {
  Batch batch;
};

}  // namespace plait
