#include "plait/sim/bound/price.h"

#include <gtest/gtest.h>

#include <vector>

#include "plait/ir/forms/csv.h"
#include "plait/schedule/generators.h"

namespace plait {
namespace {

// One rank, F = I = W = 1, B = 2: 2 micro-batches take 6, with nothing to wait for.
TEST(Price, OfOneRankIsItsBound) {
  const auto priced = price(*generate("gpipe", {1, 2}), unit_cost_model(1), {});
  ASSERT_TRUE(priced) << priced.error().text();
  EXPECT_EQ(priced->prediction.makespan_ns, 6);
  EXPECT_EQ(priced->bound.makespan, 6);
  EXPECT_EQ(priced->above_bound(), 0);
  EXPECT_EQ(priced->worst_idle(), 0);
  EXPECT_EQ(priced->worst_peak(), 2);
}

// Two ranks, one micro-batch: each computes 3 of 6.
TEST(Price, IdleTimeIsOfTheMakespan) {
  const auto priced = price(*generate("gpipe", {2, 1}), unit_cost_model(2), {});
  ASSERT_TRUE(priced) << priced.error().text();
  EXPECT_EQ(priced->prediction.makespan_ns, 6);
  EXPECT_EQ(priced->worst_idle(), 3);
  EXPECT_EQ(priced->chunks, 1);
}

// As torch's analyze_pipeline_activation_liveness counts them.
TEST(Price, ActivationSlotsAreTheMostThatLiveAtOnce) {
  EXPECT_EQ(activation_slots(*generate("interleaved-1f1b", {4, 8, 2})),
            (std::vector<int>{11, 9, 7, 5}));
  EXPECT_EQ(activation_slots(*generate("zbv", {4, 8})), std::vector<int>(4, 8));
  EXPECT_EQ(activation_slots(*generate("dualpipe-v", {4, 8})), std::vector<int>(4, 9));
}

TEST(Price, OfABrokenScheduleIsItsFirstFinding) {
  const auto priced = price(*read_csv("0F0,0B0,0F1\n", "f", {}), unit_cost_model(1), {});
  ASSERT_FALSE(priced);
  EXPECT_EQ(priced.error().code, ErrorCode::kCheckFailed);
  EXPECT_EQ(priced.error().text(),
            "f: the schedule breaks a rule (1 found, plait check lists them): error: completeness: "
            "rank 0: stage 0 micro-batch 1: its backward is missing: 0B1, or 0I1 and 0W1");
}

TEST(Price, OfAPassIsTheMakespanWithinTheCap) {
  const Schedule schedule = *generate("gpipe", {1, 2});
  EXPECT_EQ(*schedule_price(unit_cost_model(1), std::nullopt)(schedule), 6);
  EXPECT_EQ(*schedule_price(unit_cost_model(1), 2)(schedule), 6);
  const auto over = schedule_price(unit_cost_model(1), 1)(schedule);
  ASSERT_FALSE(over);
  EXPECT_EQ(over.error().text(), "a rank holds 2 activations, at most 1 are allowed");
}

}  // namespace
}  // namespace plait
