/// Random bits by counter: the same number gives the same bits, in any order and on any thread.
///
/// The bits are promised: parameters and batches of a seed stay what they are. Source: SplitMix64,
/// Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.
#pragma once

#include <cstdint>

namespace plait {

/// What SplitMix64 adds to its state for each number.
inline constexpr std::uint64_t kSplitMixStep = 0x9e3779b97f4a7c15ULL;

/// SplitMix64's finaliser: a bijection that spreads every bit over all.
constexpr std::uint64_t mix_bits(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

/// The number that SplitMix64 gives first from this state.
constexpr std::uint64_t split_mix(std::uint64_t state) { return mix_bits(state + kSplitMixStep); }

}  // namespace plait
