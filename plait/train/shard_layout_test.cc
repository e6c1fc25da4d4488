#include "plait/train/shard_layout.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>

namespace plait {
namespace {

using Pieces = std::vector<Piece>;

TEST(ShardLayout, CutsAParameterIntoAtMost256ChunksOfWholeEights) {
  EXPECT_EQ(chunk_numbers(1), 64);
  EXPECT_EQ(chunk_numbers(16384), 64);
  EXPECT_EQ(chunk_numbers(16385), 72);
  EXPECT_EQ(chunk_count(0), 0);
  EXPECT_EQ(chunk_count(64), 1);
  EXPECT_EQ(chunk_count(65), 2);
  EXPECT_EQ(chunk_count(16384), 256);
  // 256 * 64 = 16384; 16385 / 72 = 227.6
  EXPECT_EQ(chunk_count(16385), 228);
  for (std::int64_t numel = 1; numel < 100'000; numel += 37) EXPECT_LE(chunk_count(numel), 256);
}

TEST(ShardLayout, GivesTheExampleOfTheHeader) {
  const ShardLayout layout({100, 200, 20}, 2);
  EXPECT_EQ(layout.pieces(0), (Pieces{{0, 0, 100}, {1, 0, 64}}));
  EXPECT_EQ(layout.pieces(1), (Pieces{{1, 64, 136}, {2, 0, 20}}));
  EXPECT_EQ(layout.numbers(0), 164);
  EXPECT_EQ(layout.numbers(1), 156);
  EXPECT_EQ(layout.row_numbers(), 164);
}

TEST(ShardLayout, OneMemberOwnsEverything) {
  const ShardLayout layout({100, 0, 5}, 1);
  EXPECT_EQ(layout.pieces(0), (Pieces{{0, 0, 100}, {2, 0, 5}}));
  EXPECT_EQ(layout.row_numbers(), 105);
}

TEST(ShardLayout, LeavesMembersEmptyWhereThereAreFewerChunks) {
  // The first run is due to end at 21.3, nearer to 0 than to 64; the second at 42.7, nearer to 64.
  const ShardLayout one({64}, 3);
  EXPECT_TRUE(one.pieces(0).empty());
  EXPECT_EQ(one.pieces(1), (Pieces{{0, 0, 64}}));
  EXPECT_TRUE(one.pieces(2).empty());
  EXPECT_EQ(one.row_numbers(), 64);
  const ShardLayout none({}, 2);
  EXPECT_TRUE(none.pieces(0).empty());
  EXPECT_TRUE(none.pieces(1).empty());
  EXPECT_EQ(none.row_numbers(), 0);
}

/// Every number has one owner, in order; runs end at chunks, and are even but for half a chunk at
/// each end.
void expect_whole(const std::vector<std::int64_t>& numels, int members) {
  const ShardLayout layout(numels, members);
  std::vector<std::int64_t> next(numels.size());
  std::size_t parameter = 0;
  std::int64_t longest_chunk = 0;
  for (const std::int64_t numel : numels)
    longest_chunk = std::max(longest_chunk, std::min(numel, chunk_numbers(numel)));
  const std::int64_t numbers = std::accumulate(numels.begin(), numels.end(), std::int64_t{0});
  for (int member = 0; member < members; ++member) {
    EXPECT_LE(std::abs(layout.numbers(member) * members - numbers), longest_chunk * members);
    for (const Piece& piece : layout.pieces(member)) {
      ASSERT_GE(piece.parameter, parameter);
      parameter = piece.parameter;
      ASSERT_GT(piece.count, 0);
      ASSERT_EQ(piece.first, next[parameter]);
      ASSERT_EQ(piece.first % chunk_numbers(numels[parameter]), 0);
      next[parameter] += piece.count;
    }
  }
  EXPECT_EQ(next, numels);
}

TEST(ShardLayout, GivesEachNumberOneOwnerInEvenRuns) {
  const std::vector<std::vector<std::int64_t>> rows = {
      {64}, {1, 1, 1}, {100'000, 3, 96, 9216}, {0, 7, 0}, {1000, 1000, 1000}};
  for (const auto& numels : rows) {
    for (int members = 1; members <= 9; ++members) {
      SCOPED_TRACE(members);
      expect_whole(numels, members);
    }
  }
}

}  // namespace
}  // namespace plait
