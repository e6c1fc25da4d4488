/// Which tokens a step trains on: a pure function of (seed, step). No torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "plait/train/dataset.h"

namespace plait {

/// Starts of the step's sequences, each drawn by counter from (seed, step, index) out of the
/// `tokens - length` places where a sequence and its target fit (tokens > length >= 1). The first k
/// of `count` starts are those of a smaller count k.
std::vector<std::size_t> sample_starts(std::uint64_t seed, std::uint64_t step, std::size_t count,
                                       std::size_t tokens, std::size_t length);

/// Starts of consecutive windows that do not overlap: (tokens - 1) / length of them, so that tokens
/// 1 … windows * length are each predicted once.
std::vector<std::size_t> validation_starts(std::size_t tokens, std::size_t length);

/// Row i gets the `length` tokens from starts[i]; its targets are those one further on. `inputs`
/// and `targets` hold starts.size() * length numbers, rows one after the other.
void fill_sequences(const TokenSpan& tokens, std::span<const std::size_t> starts,
                    std::size_t length, std::int64_t* inputs, std::int64_t* targets);

}  // namespace plait
