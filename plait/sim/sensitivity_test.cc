#include "plait/sim/sensitivity.h"

#include <gtest/gtest.h>

#include "tests/support/prices.h"

namespace plait {
namespace {

// GPipe, F and B of the last rank with a micro-batch each: every action is on the longest path of
// the slowest rank alone.
TEST(Sensitivity, ByHand) {
  const VerifiedSchedule schedule = testing::proven("gpipe", 2, 3, 1);
  CostModel costs = unit_cost_model(2, 10);
  costs.actions.forward[0] = 5;
  costs.actions.backward[0] = 10;
  // Rank 1: F from 5, 15, 25, B from 35, 55, 75; rank 0's last B ends at 105.
  const auto result = rank_sensitivity(schedule, costs, 0.1);
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ((*result)[1].makespan_ns, 105 + 9);
  EXPECT_EQ((*result)[1].slack, 0);
  // Its first F and its last B are on the path: one half and one nanosecond, rounded up.
  EXPECT_EQ((*result)[0].makespan_ns, 107);
  EXPECT_EQ((*result)[0].slack, 0);
}

// Rank 0 of two with stages of which the other rank's are ten times as long, and no hop behind it.
TEST(Sensitivity, ARankThatWaitsHasSlack) {
  const VerifiedSchedule schedule = testing::proven("zbv", 2, 4, 2);
  CostModel costs = unit_cost_model(4, 100);
  for (const std::size_t stage : {1U, 2U}) {
    costs.actions.forward[stage] = 1000;
    costs.actions.backward_input[stage] = 1000;
    costs.actions.backward_weight[stage] = 1000;
    costs.actions.backward[stage] = 2000;
  }
  const Prediction base = testing::price(schedule, costs);
  const auto result = rank_sensitivity(schedule, costs, 0.1);
  ASSERT_TRUE(result);
  EXPECT_GT((*result)[1].makespan_ns, base.makespan_ns);
  EXPECT_GE((*result)[1].makespan_ns - base.makespan_ns, (base.makespan_ns - 1000) / 12);
  EXPECT_LT((*result)[0].makespan_ns - base.makespan_ns, 100);
}

TEST(Sensitivity, TwoCopiesAreRefused) {
  const VerifiedSchedule schedule = testing::proven("chimera", 2, 4, 1);
  EXPECT_FALSE(rank_sensitivity(schedule, unit_cost_model(2), 0.1));
}

}  // namespace
}  // namespace plait
