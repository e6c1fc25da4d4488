#include "plait/program/programs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "plait/passes/lowering.h"
#include "plait/schedule/generators.h"

namespace plait {
namespace {

using ::testing::HasSubstr;

constexpr ReplicaWork kSharded{true, ShardMode::kParameters};

Schedule order() { return *generate("interleaved-1f1b", {2, 4, 3}); }

/// A rank's UNSHARD and RESHARD and what it computes.
std::vector<Action> sharding_of(const std::vector<Action>& list) {
  std::vector<Action> kept;
  std::copy_if(list.begin(), list.end(), std::back_inserter(kept), [](const Action& action) {
    return is_compute(action.type) || action.type == ActionType::kUnshard ||
           action.type == ActionType::kReshard;
  });
  return kept;
}

TEST(ProveLowered, StagesAreUnshardedAsAsked) {
  LoweringOptions options;
  const auto expect = [&](const LoweringWork& work) {
    const VerifiedSchedule proven = *prove_lowered(order(), kSharded, work);
    const Schedule lowered = *insert_unshards(order(), options);
    for (std::size_t rank = 0; rank < 2; ++rank) {
      EXPECT_EQ(sharding_of(proven.schedule().ranks[rank]), sharding_of(lowered.ranks[rank]));
    }
  };
  expect({});
  options.max_active_stages = 2;
  options.unshard_lookahead = "2,1";
  expect({2, "2,1", 0});
  // Whole parameters need none of it.
  const VerifiedSchedule whole = *prove_lowered(order(), {true, ShardMode::kNone}, {2, "full", 0});
  EXPECT_EQ(sharding_of(whole.schedule().ranks[0]), sharding_of(order().ranks[0]));
}

TEST(ProveLowered, NoMoreSendsAreOutstandingThanAsked) {
  for (const int most : {1, 3}) {
    const VerifiedSchedule proven = *prove_lowered(order(), kSharded, {0, "full", most});
    int reached = 0;
    for (const std::vector<Action>& list : proven.schedule().ranks) {
      int outstanding = 0;
      for (const Action& action : list) {
        outstanding += is_send(action.type) ? 1 : is_send_wait(action.type) ? -1 : 0;
        reached = std::max(reached, outstanding);
      }
    }
    EXPECT_EQ(reached, most);
  }
}

TEST(ProveLowered, WhatContradictsIsRefusedWithTheNumbers) {
  const auto error = [](Schedule schedule, const LoweringWork& work) {
    const auto proven = prove_lowered(std::move(schedule), kSharded, work);
    EXPECT_FALSE(proven);
    EXPECT_EQ(proven.error().code, ErrorCode::kInvalidInput);
    return proven.error().text();
  };
  EXPECT_EQ(error(order(), {2, "3,1", 0}),
            "--unshard-lookahead: found '3' for rank 0, needed a number from 1 to 2, the stages "
            "that may be active");
  EXPECT_EQ(error(*generate("dualpipe-v", {2, 4}), {1, "full", 0}).substr(0, 45),
            "--max-active-stages: found 1, needed at least");
  // A list that keeps three stages whole.
  const Schedule three = *insert_unshards(order(), {});
  EXPECT_TRUE(prove_lowered(three, kSharded, {3, "full", 0}));
  EXPECT_TRUE(prove_lowered(three, kSharded, {}));
  EXPECT_THAT(error(three, {2, "full", 0}),
              HasSubstr("makes 3 stages of the rank whole, the cap is 2: 0, 2, 4"));
}

}  // namespace
}  // namespace plait
