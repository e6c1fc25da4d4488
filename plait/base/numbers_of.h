/// How many numbers a tensor of a shape has.
#pragma once

#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

namespace plait {

/// 1 of an empty shape, which is one number. The caller knows that the product fits.
inline std::int64_t numbers_of(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

}  // namespace plait
