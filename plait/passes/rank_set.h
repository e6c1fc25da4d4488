/// RankSet: a set of ranks.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "plait/passes/value_numbers.h"

namespace plait::passes_detail {

/// A set of ranks that is walked in ascending order while it changes. Queries cost O(P / 64).
class RankSet {
 public:
  explicit RankSet(std::size_t ranks) : words_((ranks + 63) / 64) {}
  void insert(std::size_t rank) { words_[rank / 64] |= std::uint64_t{1} << (rank % 64); }
  void erase(std::size_t rank) { words_[rank / 64] &= ~(std::uint64_t{1} << (rank % 64)); }
  /// The first member that is `from` or above, kNone if there is none.
  std::size_t next(std::size_t from) const {
    std::size_t word = from / 64;
    if (word >= words_.size()) return kNone;
    std::uint64_t bits = words_[word] >> (from % 64) << (from % 64);
    while (bits == 0) {
      if (++word == words_.size()) return kNone;
      bits = words_[word];
    }
    return word * 64 + static_cast<std::size_t>(std::countr_zero(bits));
  }

 private:
  std::vector<std::uint64_t> words_;
};

}  // namespace plait::passes_detail
