#include "plait/compare/compare.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "plait/schedule/generators.h"

namespace plait {
namespace {

CompareQuestion shape(int ranks, int microbatches) {
  CompareQuestion question;
  question.ranks = ranks;
  question.microbatches = microbatches;
  return question;
}

TEST(Compare, EveryScheduleIsPricedOrLeftOutWithWhy) {
  const auto comparison = compare_schedules(shape(4, 6), {});
  ASSERT_TRUE(comparison) << comparison.error().text();
  EXPECT_EQ(comparison->fit.size() + comparison->left_out.size(), kGenerators.size());
  EXPECT_TRUE(std::is_sorted(comparison->fit.begin(), comparison->fit.end(),
                             [](const PricedLowering& a, const PricedLowering& b) {
                               return a.price.prediction.makespan_ns <
                                      b.price.prediction.makespan_ns;
                             }));
  const auto left_out =
      std::find_if(comparison->left_out.begin(), comparison->left_out.end(),
                   [](const LeftOut& one) { return one.schedule == "dualpipe-v"; });
  ASSERT_NE(left_out, comparison->left_out.end());
  EXPECT_EQ(left_out->why, "microbatches is 6, needs at least 8, twice the 4 ranks");
}

// Shares of 12 ns for F, I and W: (M + P - 1) * 36, whatever V.
TEST(Compare, CostsAreThoseOfARanksShare) {
  const auto comparison = compare_schedules(shape(4, 8), {});
  ASSERT_TRUE(comparison);
  const auto of = [&](const std::string& name) {
    return std::find_if(comparison->fit.begin(), comparison->fit.end(),
                        [&](const PricedLowering& one) { return one.price.schedule == name; })
        ->price.prediction.makespan_ns;
  };
  EXPECT_EQ(of("gpipe"), (8 + 4 - 1) * 36);
  EXPECT_EQ(of("1f1b"), (8 + 4 - 1) * 36);
  EXPECT_LT(of("interleaved-1f1b"), of("1f1b"));
}

TEST(Compare, ACapLeavesOutWhatHoldsMore) {
  CompareQuestion question = shape(4, 12);
  question.cap = *parse_memory("4", "memory");
  const auto comparison = compare_schedules(question, {});
  ASSERT_TRUE(comparison);
  for (const PricedLowering& one : comparison->fit) EXPECT_LE(peak_activations(one.price), 4);
  EXPECT_NE(comparison->kept_out_by_cap(), nullptr);
}

TEST(Compare, MemoryIsActivationsOrBytes) {
  EXPECT_EQ(parse_memory("4.5", "memory")->activations, 4.5);
  EXPECT_EQ(parse_memory("2KiB", "memory").error().where, "memory");
  EXPECT_EQ(parse_memory("2MiB", "memory")->bytes, Bytes{2} << 20);
  EXPECT_FALSE(parse_memory("", "memory")->is_given());
  CompareQuestion question = shape(2, 4);
  question.cap = *parse_memory("1GB", "memory");
  EXPECT_FALSE(compare_schedules(question, {}));
}

}  // namespace
}  // namespace plait
