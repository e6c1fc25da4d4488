/// BitTable: a bit for each (row, micro-batch), all of them 0 at first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace plait::verify_detail {

/// Most rows are filled by ascending column. So a row keeps how many of its first columns are set,
/// and bits only for what was set out of turn: the counts of all rows fit the cache, the bits do
/// not.
///   get(row, column) = column < prefix[row] or bit(row, column)
class BitTable {
 public:
  BitTable(std::size_t rows, int columns)
      : words_per_row_((static_cast<std::size_t>(columns) + 63) / 64),
        prefix_(rows),
        beyond_(rows),
        words_(rows * words_per_row_) {}

  bool get(std::size_t row, int column) const {
    return column < prefix_[row] || (beyond_[row] > 0 && bit(row, column));
  }
  void set(std::size_t row, int column) {
    if (get(row, column)) return;
    if (column != prefix_[row]) {
      words_[word(row, column)] |= std::uint64_t{1} << (static_cast<unsigned>(column) % 64);
      ++beyond_[row];
      return;
    }
    ++prefix_[row];
    for (; beyond_[row] > 0 && bit(row, prefix_[row]); ++prefix_[row]) --beyond_[row];
  }

 private:
  std::size_t word(std::size_t row, int column) const {
    return row * words_per_row_ + static_cast<unsigned>(column) / 64;
  }
  bool bit(std::size_t row, int column) const {
    return (words_[word(row, column)] >> (static_cast<unsigned>(column) % 64) & 1) != 0;
  }

  std::size_t words_per_row_;
  std::vector<int> prefix_;  // by row: columns below are set
  std::vector<int> beyond_;  // by row: how many others are set
  std::vector<std::uint64_t> words_;
};

}  // namespace plait::verify_detail
