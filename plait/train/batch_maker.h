/// Token sequences as the tensors a step reads.
#pragma once

#include <cstddef>
#include <span>

#include "plait/nn/batch.h"
#include "plait/train/dataset.h"

namespace plait {

/// Sequence i goes to micro-batch i / (starts.size() / microbatches); the number of sequences is a
/// multiple of `microbatches`.
Batch make_batch(const TokenSpan& tokens, std::span<const std::size_t> starts, int microbatches,
                 std::size_t length);

}  // namespace plait
