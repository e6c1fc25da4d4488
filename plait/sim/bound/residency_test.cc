#include "plait/sim/bound/residency.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "plait/schedule/generators.h"
#include "plait/verify/verify.h"

namespace plait {
namespace {

using ::testing::ElementsAre;

/// Active stages and look-ahead of all that is tried.
std::vector<std::tuple<int, std::string>> tried(const PricedLowerings& lowerings) {
  std::vector<std::tuple<int, std::string>> all;
  for (const PricedLowering& one : lowerings.priced)
    all.emplace_back(one.options.max_active_stages, one.lookahead);
  return all;
}

/// Replicas that gather 12 bytes of a stage in 9 ns; F, I and W take 10.
CostModel sharded(int stages) {
  CostModel costs = unit_cost_model(stages, 10);
  costs.parameter_bytes.assign(static_cast<std::size_t>(stages), 12);
  costs.collectives = {4, {0, 1'000'000'000}};
  return costs;
}

TEST(PriceLowerings, TriesEveryResidencyAndLookahead) {
  const Schedule schedule = *generate("interleaved-1f1b", {2, 4, 3});
  ResidencyQuestion question;
  question.any_active_stages = question.any_lookahead = true;
  const PricedLowerings all = *price_lowerings(schedule, sharded(6), question);
  EXPECT_THAT(tried(all), ElementsAre(std::tuple(1, "full"), std::tuple(2, "full"),
                                      std::tuple(2, "1"), std::tuple(3, "full"), std::tuple(3, "2"),
                                      std::tuple(3, "1"), std::tuple(3, "auto")));
  EXPECT_EQ(all.priced[2].options.unshard_lookahead, "1,1");
  question.any_active_stages = false;
  question.options.max_active_stages = 2;
  EXPECT_THAT(tried(*price_lowerings(schedule, sharded(6), question)),
              ElementsAre(std::tuple(2, "full"), std::tuple(2, "1")));
}

// All stages whole from the first use on: nothing is gathered twice, all is held. One stage at a
// time: the least memory and the longest step. Each of them is what lowering with it costs.
TEST(PriceLowerings, MemoryIsTradedForTime) {
  const Schedule schedule = *generate("interleaved-1f1b", {2, 4, 3});
  const CostModel costs = sharded(6);
  ResidencyQuestion question;
  question.any_active_stages = true;
  const std::vector<PricedLowering> all = price_lowerings(schedule, costs, question)->priced;
  ASSERT_EQ(all.size(), 3U);
  // A rank keeps 3 of each stage, and 12 of each whole one.
  EXPECT_EQ(all[0].price.worst_peak(), 3 * 3 + 1 * 12);
  EXPECT_EQ(all[1].price.worst_peak(), 3 * 3 + 2 * 12);
  EXPECT_EQ(all[2].price.worst_peak(), 3 * 3 + 3 * 12);
  EXPECT_TRUE(is_better(all[2], all[0]));
  EXPECT_FALSE(is_better(all[0], all[2]));
  for (const PricedLowering& one : all) {
    const Schedule lowered = lower_as_torch(schedule, one.options)->schedule;
    EXPECT_EQ(simulate(*verify(lowered), costs)->makespan_ns, one.price.prediction.makespan_ns);
  }
}

// A pair needs two stages at once; torch's late receives may stand in an order that hangs.
TEST(PriceLowerings, LeavesOutWhatTheScheduleCannotHave) {
  ResidencyQuestion question;
  question.any_active_stages = true;
  const PricedLowerings pairs =
      *price_lowerings(*generate("dualpipe-v", {2, 6}), unit_cost_model(4), question);
  EXPECT_THAT(tried(pairs), ElementsAre(std::tuple(2, "full")));
  EXPECT_THAT(pairs.why_not, ::testing::HasSubstr("needed at least 2"));
  question.options.defer_recv = true;
  const PricedLowerings late =
      *price_lowerings(*generate("zbv", {2, 3}), unit_cost_model(4), question);
  EXPECT_TRUE(late.priced.empty());
  EXPECT_THAT(late.why_not, ::testing::HasSubstr("message-order"));
  EXPECT_FALSE(price_lowerings(*generate("zbv", {2, 3}), unit_cost_model(3), {}));
}

}  // namespace
}  // namespace plait
