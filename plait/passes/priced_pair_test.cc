#include "plait/passes/priced_pair.h"

#include <gtest/gtest.h>

#include <string>

#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"
#include "plait/sim/simulate.h"
#include "plait/verify/verify.h"

namespace plait {
namespace {

constexpr Nanoseconds kUnit = 100;

/// F, I and W take a unit, a pair three quarters of its members' units as a block.
SchedulePrice blocks_at_three_quarters(int max_activations = 1 << 20) {
  return [max_activations](const Schedule& schedule) -> Expected<Nanoseconds> {
    CostModel costs = unit_cost_model(schedule.placement.stages(), kUnit);
    costs.pairs.pricing = PairPricing::kBlock;
    costs.pairs.share = 0.75;
    const auto verified = verify(Schedule(schedule));
    if (!verified) return fail(ErrorCode::kCheckFailed, verified.error().front().text());
    PLAIT_TRY(const Prediction prediction, simulate(*verified, costs));
    for (const RankPrediction& rank : prediction.ranks) {
      if (rank.peak_activations.amount > max_activations)
        return fail(ErrorCode::kCheckFailed, "holds too much");
    }
    return prediction.makespan_ns;
  };
}

Schedule merged(const std::string& name, const ScheduleShape& shape) {
  return *run_passes("merge-backward", *generate(name, shape));
}

TEST(PricedPair, GivesOneForwardOneBackwardAndInterleavedPairsThatPay) {
  const SchedulePrice price = blocks_at_three_quarters();
  for (const auto& [name, chunks] : {std::pair("1f1b", 1), std::pair("interleaved-1f1b", 2)}) {
    const Schedule without = merged(name, {4, 16, chunks});
    const Schedule adjacent = *run_passes("pair", without);
    const Schedule chosen = *run_passes("pair", without, price);
    EXPECT_LT(*price(chosen), *price(without) * 9 / 10) << name;
    EXPECT_LT(*price(chosen), *price(adjacent)) << name;
  }
}

TEST(PricedPair, IsNeverWorseThanWhatItWasGiven) {
  const SchedulePrice price = blocks_at_three_quarters();
  int tried = 0;
  for (const GeneratorInfo& info : kGenerators) {
    for (const int ranks : {2, 4}) {
      const auto schedule = generate(info.name, {ranks, 2 * ranks});
      if (!schedule || schedule->forward_only) continue;
      const auto chosen = run_passes("pair=1", *schedule, price);
      ASSERT_TRUE(chosen) << info.name << ": " << chosen.error().text();
      EXPECT_LE(*price(*chosen), *price(*schedule)) << info.name << " R=" << ranks;
      ++tried;
    }
  }
  EXPECT_GT(tried, 20);
}

TEST(PricedPair, KeepsToWhatARankMayHold) {
  const Schedule without = merged("1f1b", {4, 16});
  const Schedule free = *run_passes("pair", without, blocks_at_three_quarters());
  const SchedulePrice tight = blocks_at_three_quarters(4);  // what 1f1b itself holds
  EXPECT_FALSE(tight(free));
  const auto chosen = run_passes("pair", without, tight);
  ASSERT_TRUE(chosen) << chosen.error().text();
  EXPECT_TRUE(tight(*chosen));
}

TEST(PricedPair, SaysWhyNothingCanBePriced) {
  const auto chosen = run_passes("pair", merged("1f1b", {4, 16}), blocks_at_three_quarters(1));
  ASSERT_FALSE(chosen);
  EXPECT_EQ(chosen.error().message, "holds too much");
}

}  // namespace
}  // namespace plait
