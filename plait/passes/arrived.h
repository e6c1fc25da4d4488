/// Arrived: which values are there.
#pragma once

#include <cstddef>
#include <vector>

#include "plait/passes/value_numbers.h"

namespace plait::passes_detail {

/// A row is one consumer stage and direction. Most values of a row arrive by ascending micro-batch,
/// so a row keeps how many of its first micro-batches have arrived, and bits only for those that
/// arrived out of turn: the counts fit the cache, a bit for each value does not.
class Arrived {
 public:
  explicit Arrived(const ValueNumbers& values)
      : row_bits_(values.row_bits()),
        below_(values.size() >> row_bits_),
        beyond_(below_.size()),
        bits_(values.size()) {}

  bool has(std::size_t value) const {
    const std::size_t row = value >> row_bits_;
    return microbatch(value) < below_[row] || (beyond_[row] > 0 && bits_[value]);
  }
  void add(std::size_t value) {
    if (has(value)) return;
    const std::size_t row = value >> row_bits_;
    if (microbatch(value) != below_[row]) {
      bits_[value] = true;
      ++beyond_[row];
      return;
    }
    ++below_[row];
    for (; beyond_[row] > 0 && bits_[(row << row_bits_) + below_[row]]; ++below_[row])
      --beyond_[row];
  }

 private:
  std::size_t microbatch(std::size_t value) const {
    return value & ((std::size_t{1} << row_bits_) - 1);
  }

  int row_bits_;
  std::vector<std::size_t> below_;   // of each row, all micro-batches below this are there,
  std::vector<std::size_t> beyond_;  // and this many others, by their bits
  std::vector<bool> bits_;
};

}  // namespace plait::passes_detail
