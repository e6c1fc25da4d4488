#include "plait/sim/profile.h"

#include <gtest/gtest.h>

#include <string>

#include "plait/passes/insert_comm.h"
#include "plait/schedule/generators.h"
#include "plait/sim/simulate.h"

namespace plait {
namespace {

/// What a step takes whose costs are known, as a timeline.
Prediction predicted(const char* schedule, const CostModel& costs, bool timeline) {
  SimulateOptions options;
  options.keep_timeline = timeline;
  return *simulate(*verify(*insert_comm(*generate(schedule, {2, 8}))), costs, options);
}

CostModel known_costs() {
  CostModel costs = unit_cost_model(4);
  costs.actions.forward = {1000, 1100, 1200, 1900};
  costs.actions.backward_input = {900, 1300, 1250, 2000};
  costs.actions.backward_weight = {800, 700, 650, 900};
  costs.actions.backward = {1650, 1950, 1850, 2850};
  costs.actions.hop = 40;
  return costs;
}

TEST(CostProfile, FindsTheCostsAStepWasMadeWith) {
  CostProfile profile(4);
  profile.add(*predicted("dualpipe-v", known_costs(), true).timeline);
  const Expected<CostSettings> settings = profile.settings();
  ASSERT_TRUE(settings) << settings.error().text();
  const Expected<CostModel> costs = make_cost_model(*settings, 4);
  ASSERT_TRUE(costs) << costs.error().text();
  EXPECT_EQ(costs->actions.forward, known_costs().actions.forward);
  EXPECT_EQ(costs->actions.backward_input, known_costs().actions.backward_input);
  EXPECT_EQ(costs->actions.backward_weight, known_costs().actions.backward_weight);
  EXPECT_EQ(costs->actions.backward, known_costs().actions.backward);
  EXPECT_EQ(costs->actions.hop, 40);
  for (const char* other : {"zbv", "interleaved-1f1b", "dualpipe-v"})
    EXPECT_EQ(predicted(other, *costs, false).makespan_ns,
              predicted(other, known_costs(), false).makespan_ns);
}

TEST(CostProfile, ThatNeverSawAnActionSaysSo) {
  CostProfile profile(4);
  profile.add(*predicted("interleaved-1f1b", known_costs(), true).timeline);
  const Expected<CostSettings> settings = profile.settings();
  ASSERT_FALSE(settings);
  EXPECT_EQ(settings.error().message,
            "stage 0 never ran I by itself, needed a schedule with F, I and W of every stage, as "
            "dualpipe-v or zbv");
}

TEST(CostProfile, IsTheMeanOverStepsWithTheirPauses) {
  CostProfile profile(4);
  for (const Nanoseconds pause : {0, 10, 0, 90}) {
    Timeline timeline = *predicted("dualpipe-v", known_costs(), true).timeline;
    for (TimelineEvent& event : timeline.events) {
      const bool pauses = event.action.type == ActionType::kForward && event.action.stage == 1;
      if (event.lane == Lane::kCompute && pauses) event.end += pause;
    }
    profile.add(timeline);
  }
  // What follows a longer action begins before its end here: gaps are no part of this.
  EXPECT_GE(profile.settings()->of(StageKey::kForward)->values[1], 1100 + 25 - 8);
  EXPECT_LE(profile.settings()->of(StageKey::kForward)->values[1], 1100 + 25);
  EXPECT_LE(profile.settings()->of(StageKey::kForward)->values[0], 1000);
}

TEST(CostProfile, IsPrintedAsACostFileAndMerged) {
  CostProfile profile(4);
  profile.add(*predicted("dualpipe-v", known_costs(), true).timeline);
  const CostSettings settings = *profile.settings();
  const Expected<CostSettings> again = parse_cost_file(print_costs(settings), "costs.toml");
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(print_costs(*again), print_costs(settings));
  EXPECT_EQ(merge_stages(settings, 2).of(StageKey::kForward)->values,
            (std::vector<std::int64_t>{2100, 3100}));
}

}  // namespace
}  // namespace plait
