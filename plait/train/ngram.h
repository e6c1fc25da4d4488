/// Interpolated Witten-Bell n-gram over bytes: what a trained model is held against. Knows no
/// torch.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "plait/train/dataset.h"

namespace plait {

/// Bits per byte on `test[first]`, `test[first + 1]`, … of a model of `order` bytes (1 … 4) trained
/// on `train`. The context reaches back into `test` before `first` as far as there is any.
/// p_n(c | h) = (count(hc) + types(h) p_{n-1}(c | h')) / (count(h) + types(h)), p_0 = 1/256.
/// Cost: O(order * (train + test)). Source: Chen and Goodman, 1996, section 2.5.
double witten_bell_bits_per_byte(std::span<const std::uint8_t> train,
                                 std::span<const std::uint8_t> test, std::size_t first, int order);

/// Of the uni-, bi-, tri- and 4-gram of the training part's bytes, on the bytes of the held-out
/// part that a model with that sequence length is scored on: of every whole window all but its
/// first.
std::array<double, 4> held_out_ngram_bits(const DataSplit& data, int sequence_length);

}  // namespace plait
