#include "plait/runtime/stall.h"

#include <gtest/gtest.h>

namespace plait {
namespace {

constexpr Nanoseconds kSecond = 1'000'000'000;

RankDoing waits(int rank, std::vector<int> awaited) {
  return {rank, RankState::kWaits, "0RECV_F0", std::move(awaited), 3 * kSecond};
}
RankDoing is(RankState state, int rank) { return {rank, state, "2W4", {}, 4 * kSecond}; }

using Chain = std::vector<int>;

TEST(Stall, FollowsWhoWaitsForWhomToTheCause) {
  const StallCause cause =
      find_cause({waits(0, {1}), waits(1, {2}), is(RankState::kStopped, 2), waits(3, {2})});
  EXPECT_EQ(cause.chain, Chain({0, 1, 2}));
  EXPECT_FALSE(cause.circle);
}

TEST(Stall, NamesACircle) {
  const StallCause cause = find_cause({waits(0, {1}), waits(1, {2}), waits(2, {1})});
  EXPECT_EQ(cause.chain, Chain({0, 1, 2}));
  EXPECT_TRUE(cause.circle);
}

TEST(Stall, ADeadRankIsTheCauseBeforeOneThatComputes) {
  const std::vector<RankDoing> ranks = {waits(0, {1}), is(RankState::kComputes, 1), waits(2, {3}),
                                        is(RankState::kDead, 3)};
  EXPECT_EQ(find_cause(ranks).chain, Chain({2, 3}));
}

TEST(Stall, MembersThatWaitInOneCollectiveAreNotTheCause) {
  // 0, 1 and 2 have posted theirs; 3 still waits for 4, which computes.
  const std::vector<RankDoing> ranks = {waits(0, {0, 1, 2, 3}), waits(1, {0, 1, 2, 3}),
                                        waits(2, {0, 1, 2, 3}), waits(3, {4}),
                                        is(RankState::kComputes, 4)};
  const StallCause cause = find_cause(ranks);
  EXPECT_EQ(cause.chain.back(), 4);
  EXPECT_FALSE(cause.circle);
}

TEST(Stall, ARankOfWhichNothingIsKnownIsSilent) {
  const std::vector<RankDoing> ranks = {waits(0, {7})};
  EXPECT_EQ(find_cause(ranks).chain, Chain({0, 7}));
  EXPECT_EQ(describe_stall(ranks),
            "the cause is rank 7, which says nothing: it is stopped, dead or gone from the "
            "network: rank 0 waits for rank 7\n"
            "  rank 0 waits in 0RECV_F0, for 3.0 s");
}

TEST(Stall, SaysWhatEachRankDoesAndSinceWhen) {
  EXPECT_EQ(describe_stall({is(RankState::kStopped, 2), waits(0, {1}), waits(1, {2})}),
            "the cause is rank 2, which is stopped (SIGSTOP): rank 0 waits for rank 1, which waits "
            "for rank 2\n"
            "  rank 0 waits in 0RECV_F0, for 3.0 s\n"
            "  rank 1 waits in 0RECV_F0, for 3.0 s\n"
            "  rank 2 is stopped (SIGSTOP) in 2W4, for 4.0 s");
  EXPECT_EQ(describe_stall({is(RankState::kComputes, 0)}),
            "the cause is rank 0, which is in 2W4\n  rank 0 is in 2W4, for 4.0 s");
}

TEST(Stall, OfThousandsOfRanksTheChainIsShown) {
  std::vector<RankDoing> ranks;
  for (int rank = 0; rank < 5000; ++rank) ranks.push_back(waits(rank, {4999}));
  ranks.back() = is(RankState::kDead, 4999);
  const std::string text = describe_stall(ranks);
  EXPECT_NE(text.find("\n  rank 4999 is dead, was in 2W4"), std::string::npos) << text;
  EXPECT_NE(text.find("\n  and 4960 more ranks"), std::string::npos) << text;
}

TEST(Stall, AChainMayBeAsLongAsThereAreRanks) {
  std::vector<RankDoing> ranks;
  for (int rank = 0; rank < 100000; ++rank) ranks.push_back(waits(rank, {rank + 1}));
  EXPECT_EQ(find_cause(ranks).chain.back(), 100000);
}

TEST(Stall, WhatOneProcessPrintsAnotherOneReads) {
  RankDoing read;
  ASSERT_TRUE(read_doing(print_doing(waits(3, {1, 2})), read));
  EXPECT_EQ(describe(read), describe(waits(3, {1, 2})));
  EXPECT_EQ(read.awaited, Chain({1, 2}));
  for (const char* wrong : {"", "{}", "[1]", "[1, \"x\", \"\", [], 0]", "[1, 0, \"\", [{}], 0]"})
    EXPECT_FALSE(read_doing(wrong, read)) << wrong;
}

}  // namespace
}  // namespace plait
