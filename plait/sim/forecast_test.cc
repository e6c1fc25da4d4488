#include "plait/sim/forecast.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "plait/passes/insert_comm.h"
#include "plait/program/measured_timeline.h"
#include "plait/schedule/generators.h"

namespace plait {
namespace {

/// Stages of one layer with a mixture, in columns of two.
struct Case {
  explicit Case(const std::string& schedule, bool braid = false, int ranks = 1, int members = 2)
      : grid{ranks, 1, members} {
    const auto verified = verify(*insert_comm(*generate(schedule, {ranks, 2 * ranks + 2})));
    LowerOptions options;
    const StageShape shape = {{Lane::kCompute, "attn", 0, true},
                              {Lane::kCommunication, "dispatch", 0, true},
                              {Lane::kCompute, "mlp", 0, true},
                              {Lane::kCommunication, "combine", 0, true},
                              {Lane::kCompute, "tail", -1, true}};
    if (members > 1)
      options.shapes.assign(static_cast<std::size_t>(verified->placement().stages()), shape);
    options.braid = braid;
    for (int rank = 0; rank < ranks; ++rank) programs.push_back(*lower(*verified, rank, options));
  }

  /// Instructions of a lane one after the other, each as long as its kind says; no other rank is
  /// waited for, but an exchange ends for both at once.
  Timeline steady(Nanoseconds attn, Nanoseconds tail, Nanoseconds exchange) const {
    std::vector<InstructionTimes> times;
    for (int rank = 0; rank < grid.ranks(); ++rank) {
      const RankProgram& program = programs[static_cast<std::size_t>(grid.pipeline_of(rank))];
      Nanoseconds at = 0;
      times.emplace_back();
      for (const Instruction& one : program.instructions) {
        const Nanoseconds takes = one.lane == Lane::kCommunication ? exchange
                                  : one.part == 0                  ? attn
                                                                   : tail;
        times.back().push_back({at, at + takes});
        at += takes;
      }
    }
    return MeasuredTimeline(programs, grid).make(times);
  }

  Grid grid;
  std::vector<RankProgram> programs;
};

Nanoseconds span(const Expected<Timeline>& timeline) {
  EXPECT_TRUE(timeline) << timeline.error().text();
  return timeline ? measure(*timeline).span_ns : 0;
}

TEST(Forecast, StepsInSequenceTakeWhatTheirInstructionsDo) {
  const Case given("gpipe");
  const Timeline measured = given.steady(100, 30, 50);
  InstructionCosts costs(given.programs, given.grid);
  costs.add(measured);
  const auto again = forecast(given.programs, given.grid, costs);
  ASSERT_TRUE(again) << again.error().text();
  ASSERT_EQ(again->events.size(), measured.events.size());
  for (std::size_t i = 0; i < measured.events.size(); ++i) {
    EXPECT_EQ(again->events[i].action, measured.events[i].action);
    EXPECT_EQ(again->events[i].begin, measured.events[i].begin) << i;
    EXPECT_EQ(again->events[i].end, measured.events[i].end) << i;
  }
}

TEST(Forecast, BraidsHideExchangesFromAProfileWithoutPairs) {
  const Case sequence("dualpipe-v"), braid("dualpipe-v", true);
  const Case split("zbv");
  InstructionCosts costs(split.programs, split.grid);
  costs.add(split.steady(100, 30, 50));
  const auto timeline = forecast(braid.programs, braid.grid, costs);
  const Nanoseconds one_by_one = span(forecast(sequence.programs, sequence.grid, costs));
  EXPECT_LT(span(timeline), one_by_one);
  const StepMetrics metrics = measure(*timeline);
  EXPECT_GE(metrics.span_ns, metrics.ranks[0].busy_ns);
  EXPECT_GT(metrics.overlap_efficiency(), 0.2);
  EXPECT_EQ(metrics.ranks[0].hidden_comm_ns, metrics.ranks[1].hidden_comm_ns);
}

TEST(Forecast, FittedToAForecastItForecastsTheSame) {
  for (const char* schedule : {"dualpipe-v", "zbv"}) {
    for (const bool braid : {false, true}) {
      const Case given(schedule, braid);
      InstructionCosts first(given.programs, given.grid), second(given.programs, given.grid);
      const Case split("zbv");
      InstructionCosts rough(split.programs, split.grid);
      rough.add(split.steady(1000, 300, 500));
      const auto possible = forecast(given.programs, given.grid, rough);
      ASSERT_TRUE(possible) << possible.error().text();
      first.add(*possible);
      const auto timeline = forecast(given.programs, given.grid, first);
      ASSERT_TRUE(timeline) << timeline.error().text();
      second.add(*timeline);
      const auto expected = static_cast<double>(span(timeline));
      EXPECT_NEAR(static_cast<double>(span(forecast(given.programs, given.grid, second))), expected,
                  0.02 * expected)
          << schedule;
    }
  }
}

TEST(Forecast, InterferenceIsWhatBraidedPairsTakeLonger) {
  const Case given("dualpipe-v", true);
  Timeline measured = given.steady(100, 100, 50);
  for (TimelineEvent& event : measured.events)
    if (event.braided && event.lane == Lane::kCompute) event.end = event.begin + 120;
  InstructionCosts costs(given.programs, given.grid);
  EXPECT_EQ(costs.interference(), 0);
  costs.add(measured);
  EXPECT_NEAR(costs.interference(), 0.2, 1e-9);
}

TEST(Forecast, AWholeBackwardIsItsHalvesAndWhatWasNeverSeenIsAnError) {
  const Case whole("gpipe", false, 1, 1), split("zb-h1", false, 1, 1),
      forward("forward-only", false, 1, 1);
  InstructionCosts halves(split.programs, split.grid), forwards(forward.programs, forward.grid);
  halves.add(split.steady(100, 100, 0));
  EXPECT_EQ(span(forecast(whole.programs, whole.grid, halves)), 4 * 300);
  forwards.add(forward.steady(100, 100, 0));
  const auto missing = forecast(whole.programs, whole.grid, forwards);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message, "the profile never saw 0B0, needed a run with it");
}

}  // namespace
}  // namespace plait
