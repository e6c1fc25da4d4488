/// Which numbers of which parameters each replica updates when replicas are sharded. Knows no
/// torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace plait {

/// A parameter of `numel` numbers is cut, row-major, into chunks of so many, the last one shorter:
/// max(64, ceil(numel / 256) rounded up to a multiple of 8). So it has at most 256 chunks, and
/// where they begin does not depend on the number of replicas: sums of squares of chunks have the
/// same bits whoever owns the chunk.
std::int64_t chunk_numbers(std::int64_t numel);
std::int64_t chunk_count(std::int64_t numel);

/// The numbers first, …, first + count - 1 of one parameter, row-major: whole chunks.
struct Piece {
  std::size_t parameter = 0;  ///< its place in the row
  std::int64_t first = 0;
  std::int64_t count = 0;

  friend bool operator==(const Piece&, const Piece&) = default;
};

/// Cuts a row of parameters, which are reduced together, among the members of their group. Each
/// member owns a run of whole chunks that are neighbours; member m's run ends at the chunk's end
/// that is nearest to (m + 1) / members of the row's numbers. Runs may be empty. Example, three
/// parameters for two members:
///
///     numels       100         200                  20
///     chunks       64 36       64 64 64 8           20         320 numbers
///     members      0  0        0  | 1  1 1          1          164 | 156
///     pieces of 0: {0, 0, 100} {1, 0, 64}     of 1: {1, 64, 136} {2, 0, 20}
///
/// Immutable. Cost: O(chunks + members).
class ShardLayout {
 public:
  /// `numels`: of the row's parameters, in its order. `members` is 1 or more.
  ShardLayout(const std::vector<std::int64_t>& numels, int members);

  int members() const { return static_cast<int>(pieces_.size()); }
  /// In the row's order, at most one for each parameter.
  const std::vector<Piece>& pieces(int member) const;
  /// That the member owns.
  std::int64_t numbers(int member) const;
  /// Of the longest run: on the wire each member's numbers are padded to so many.
  std::int64_t row_numbers() const { return row_numbers_; }

 private:
  std::vector<std::vector<Piece>> pieces_;  // by member
  std::int64_t row_numbers_ = 0;
};

}  // namespace plait
