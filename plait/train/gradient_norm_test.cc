#include "plait/train/gradient_norm.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "plait/torch/device_cuda.h"
#include "plait/train/shard_layout.h"

namespace plait {
namespace {

TrainedSlice slice(const std::string& name, const at::Tensor& gradient) {
  return {name, gradient.sizes().vec(), 0, {}, gradient.reshape({-1}), true};
}

TEST(SquareSums, AddInDoublePrecision) {
  // 2^13 squared is 2^26: 1 more is lost in float32, which holds 24 bits, and kept in float64.
  const auto sums = square_sums({slice("p", at::tensor({8192.0F, 1.0F, 2.0F}, at::kFloat))});
  const std::vector<SquareSums> needed{{"p", 0, {67108864.0 + 1 + 4}}};
  EXPECT_EQ(sums, needed);
}

TEST(SquareSums, AreThoseOfTheNumbersInAnyDtype) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const at::Tensor gradient = at::randn({137, 211}).to(type);
    const at::Tensor wide = gradient.to(at::kDouble);
    const double needed = (wide * wide).sum().item<double>();
    EXPECT_NEAR(square_sums({slice("p", gradient)})[0].sums[0], needed, 1e-12 * needed) << type;
  }
}

/// Of a row of gradients cut among so many members: what all of them report, the last one first.
std::vector<SquareSums> sums_of_members(const std::vector<TrainedSlice>& row, int members) {
  std::vector<std::int64_t> numels;
  for (const TrainedSlice& whole : row) numels.push_back(whole.gradient.numel());
  const ShardLayout layout(numels, members);
  std::vector<SquareSums> all;
  for (int member = members - 1; member >= 0; --member) {
    std::vector<TrainedSlice> mine;
    for (const Piece& piece : layout.pieces(member)) {
      TrainedSlice part = row[piece.parameter];
      part.first = piece.first;
      part.gradient = part.gradient.narrow(0, piece.first, piece.count).clone();
      mine.push_back(std::move(part));
    }
    for (SquareSums& sums : square_sums(mine)) all.push_back(std::move(sums));
  }
  return all;
}

TEST(GlobalNorm, HasTheSameBitsHoweverTheGradientsAreCut) {
  const std::vector<TrainedSlice> row{slice("b", at::randn({97, 211})), slice("a", at::randn({65})),
                                      slice("c", at::randn({3})), slice("d", at::randn({40, 70}))};
  const double whole = global_norm(square_sums(row));
  double squares = 0;
  for (const TrainedSlice& one : row)
    squares += one.gradient.to(at::kDouble).square().sum().item<double>();
  EXPECT_NEAR(whole, std::sqrt(squares), 1e-12 * whole);
  for (const int members : {1, 2, 3, 4, 7, 500})
    EXPECT_EQ(global_norm(sums_of_members(row, members)), whole) << members;
}

TEST(SquareSums, ThoseOfTheFirstChunksAreOneNumber) {
  // 16640 numbers are 232 chunks of 72, the last one of 8: 116 for each member.
  const std::vector<SquareSums> sums = sums_of_members({slice("p", at::ones({65, 256}))}, 2);
  ASSERT_EQ(sums.size(), 2U);
  EXPECT_EQ(sums[0].chunk, 116);
  ASSERT_EQ(sums[0].sums.size(), 116U);
  EXPECT_EQ(sums[0].sums.front(), 72);
  EXPECT_EQ(sums[0].sums.back(), 8);
  const SquareSums first{"p", 0, {116 * 72}};
  EXPECT_EQ(sums[1], first);
}

TEST(SquareSums, AreReportedByWhoSpeaks) {
  TrainedSlice quiet = slice("a", at::ones({3}));
  quiet.speaks = false;
  const std::vector<SquareSums> needed{{"b", 0, {2}}};
  EXPECT_EQ(square_sums({quiet, slice("b", at::ones({2}))}), needed);
}

TEST(CudaSquareSums, AreThoseOfTheCpu) {
  if (const Expected<void> ready = prepare_cuda(); !ready) GTEST_SKIP() << ready.error().text();
  const at::Tensor gradient = at::randn({300, 70});
  const auto needed = square_sums({slice("a", gradient)});
  const auto found = square_sums({slice("a", gradient.to(cuda_place(0))), slice("b", gradient)});
  EXPECT_NEAR(found[0].sums[0], needed[0].sums[0], 1e-12 * needed[0].sums[0]);
  EXPECT_EQ(found[1].sums, needed[0].sums);
}

TEST(GlobalNorm, AddsInTheOrderOfNamesAndChunks) {
  // 1 + 2^53 loses the 1; 1 + 1 + 2^53 keeps both only if they are added first: "a" and "b".
  const double big = 9007199254740992.0;
  std::vector<SquareSums> sums = {{"c", 0, {big}}, {"a", 0, {1}}, {"b", 0, {1}}};
  EXPECT_EQ(global_norm(sums), std::sqrt(big + 2));
  // The same of the chunks of one parameter; in the other order they are lost.
  EXPECT_EQ(global_norm({{"a", 1, {1, big}}, {"a", 0, {1}}}), std::sqrt(big + 2));
  EXPECT_EQ(global_norm({{"a", 1, {1, 1}}, {"a", 0, {big}}}), std::sqrt(big));
  const auto by_name = [](const SquareSums& a, const SquareSums& b) { return a.name < b.name; };
  std::vector<SquareSums> order = sums;
  std::sort(order.begin(), order.end(), by_name);
  do {
    EXPECT_EQ(global_norm(order), global_norm(sums));
  } while (std::next_permutation(order.begin(), order.end(), by_name));
  EXPECT_EQ(global_norm({{"x", 0, {9}}, {"y", 0, {16}}}), 5);  // sqrt(9 + 16)
  EXPECT_TRUE(std::isnan(global_norm({{"x", 0, {std::numeric_limits<double>::quiet_NaN()}}})));
}

}  // namespace
}  // namespace plait
