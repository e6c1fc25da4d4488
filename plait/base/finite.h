/// Finds numbers that are infinite or not a number, at the speed at which memory is read.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

namespace plait {

/// A number is finite unless all bits of its exponent are 1; in either width bfloat16 has float's.
inline constexpr std::uint32_t kFloatExponent = 0x7f800000;
inline constexpr std::uint16_t kBfloat16Exponent = 0x7f80;

/// `bits`: numbers of one width as their bits. The loop has no branch, so that compilers make it
/// one over vectors; blocks end it early.
template <typename Bits>
bool has_exponent_of_ones(std::span<const Bits> bits, Bits exponent) {
  constexpr std::size_t kBlock = 4096;
  for (std::size_t begin = 0; begin < bits.size(); begin += kBlock) {
    unsigned found = 0;
    for (const Bits one : bits.subspan(begin, std::min(kBlock, bits.size() - begin)))
      found |= static_cast<unsigned>((one & exponent) == exponent);
    if (found != 0) return true;
  }
  return false;
}

/// "nan", "inf" or "-inf".
inline const char* name_of_not_finite(double value) {
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

}  // namespace plait
