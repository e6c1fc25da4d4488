#include "plait/sim/profile.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "plait/ir/placements.h"
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

Placement v_placement() { return *place_v(2, 4); }

TEST(CostProfile, FindsTheCostsAStepWasMadeWith) {
  CostProfile profile(v_placement(), 0);
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
  CostProfile profile(v_placement(), 0);
  profile.add(*predicted("interleaved-1f1b", known_costs(), true).timeline);
  const Expected<CostSettings> settings = profile.settings();
  ASSERT_FALSE(settings);
  EXPECT_EQ(settings.error().message,
            "stage 0 never ran I by itself, needed a schedule with F, I and W of every stage, as "
            "dualpipe-v or zbv");
}

TEST(CostProfile, IsTheMeanOverStepsWithTheirPauses) {
  CostProfile profile(v_placement(), 0);
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

/// A rank's memory as the actions of dualpipe-v would move it: a stage holds 100 and while F runs 7
/// more, of which its result, 10, leaves with a message or stays with who reads it; I frees all but
/// 30, B all, and both make a gradient of 10 that leaves.
void add_memory(Timeline& timeline) {
  std::map<int, Bytes> held;
  for (const TimelineEvent& event : timeline.events) {
    EventMemory memory;
    if (event.lane == Lane::kCompute) {
      Bytes& live = held[event.rank];
      const ActionType type = event.action.type;
      const bool last = event.action.stage == 3, first = event.action.stage == 0;
      const Bytes kept =
          event.action.stage == 2 ? 90 : 100;  // its input came with the stage before
      memory.before = live;
      if (type == ActionType::kForward) live += kept + (last ? 0 : 10);
      if (type == ActionType::kBackwardInput) live += 30 - kept + (first ? 0 : 10);
      if (type == ActionType::kBackwardWeight) live -= 30;
      if (type == ActionType::kBackward) live += (first ? 0 : 10) - kept;
      memory.after = live;
      memory.peak = std::max(memory.before, memory.after) + 7;
    }
    timeline.memory.push_back(memory);
  }
}

TEST(CostProfile, FitsWhatStagesHold) {
  CostProfile profile(v_placement(), 10);
  Timeline timeline = *predicted("dualpipe-v", known_costs(), true).timeline;
  EXPECT_FALSE(profile.settings());
  add_memory(timeline);
  profile.add(timeline);
  const CostSettings settings = *profile.settings();
  const auto values = [](const CostSettings& of, StageKey key) { return of.of(key)->values; };
  using List = std::vector<std::int64_t>;
  EXPECT_EQ(values(settings, StageKey::kActivationBytes), (List{100, 100, 100, 100}));
  EXPECT_EQ(values(settings, StageKey::kBetweenBytes), (List{30, 30, 30, 30}));
  // The result counts while F runs, but for the last stage, which has none; what the third reads
  // was there.
  EXPECT_EQ(values(settings, StageKey::kForwardScratch), (List{17, 17, 7, 7}));
  EXPECT_EQ(values(settings, StageKey::kBackwardInputScratch), (List{7, 7, 7, 7}));
  EXPECT_EQ(values(settings, StageKey::kBackwardWeightScratch), (List{7, 7, 7, 7}));
  // Two in one: the message between them is kept.
  const CostSettings merged = profile.merged(settings, 2);
  EXPECT_EQ(values(merged, StageKey::kActivationBytes), (List{210, 210}));
  EXPECT_EQ(values(merged, StageKey::kBetweenBytes), (List{60, 60}));
  EXPECT_EQ(values(merged, StageKey::kForwardScratch), (List{17, 7}));
  EXPECT_EQ(values(merged, StageKey::kBackwardInputScratch), (List{7, 7}));
}

TEST(CostProfile, MergesCostsThatUsersGaveToo) {
  const CostProfile profile(v_placement(), 10);
  const CostSettings given =
      *parse_cost_file("[stage]\nf_ns = 5\nactivation_bytes = [1, 2, 3, 4]\n", "c.toml");
  const CostSettings merged = profile.merged(given, 2);
  EXPECT_EQ(merged.of(StageKey::kForward)->values, (std::vector<std::int64_t>{10, 10}));
  EXPECT_EQ(merged.of(StageKey::kActivationBytes)->values, (std::vector<std::int64_t>{13, 17}));
  EXPECT_EQ(merged.of(StageKey::kForwardScratch)->values, (std::vector<std::int64_t>{0, 0}));
  EXPECT_FALSE(merged.of(StageKey::kBackward));
}

TEST(CostProfile, IsPrintedAsACostFileAndMerged) {
  CostProfile profile(v_placement(), 0);
  profile.add(*predicted("dualpipe-v", known_costs(), true).timeline);
  const CostSettings settings = *profile.settings();
  const Expected<CostSettings> again = parse_cost_file(print_costs(settings), "costs.toml");
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(print_costs(*again), print_costs(settings));
  EXPECT_EQ(profile.merged(settings, 2).of(StageKey::kForward)->values,
            (std::vector<std::int64_t>{2100, 3100}));
}

}  // namespace
}  // namespace plait
