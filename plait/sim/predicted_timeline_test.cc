#include "plait/sim/predicted_timeline.h"

#include <gtest/gtest.h>

#include <set>

#include "plait/passes/passes.h"
#include "plait/program/rank_program.h"
#include "plait/schedule/generators.h"
#include "plait/sim/simulate.h"

namespace plait {
namespace {

/// Every event with a number is the instruction of that number, and every instruction has an event.
TEST(PredictedTimeline, NumbersInstructionsAsLowerDoes) {
  for (const GeneratorInfo& info : kGenerators) {
    SCOPED_TRACE(info.name);
    Expected<Schedule> schedule = generate(info.name, {4, 12});
    ASSERT_TRUE(schedule);
    schedule = run_passes(kLoweringPasses, *std::move(schedule));
    ASSERT_TRUE(schedule);
    const auto verified = verify(*std::move(schedule));
    ASSERT_TRUE(verified);
    SimulateOptions options;
    options.keep_timeline = true;
    const Expected<Prediction> prediction =
        simulate(*verified, unit_cost_model(verified->placement().stages()), options);
    ASSERT_TRUE(prediction);
    for (int rank = 0; rank < verified->placement().ranks; ++rank) {
      const Expected<RankProgram> program = lower(*verified, rank);
      ASSERT_TRUE(program);
      std::set<std::size_t> seen;
      for (const TimelineEvent& event : prediction->timeline->events) {
        if (event.rank != rank || event.instruction < 0) continue;
        const auto number = static_cast<std::size_t>(event.instruction);
        ASSERT_LT(number, program->instructions.size());
        EXPECT_EQ(program->instructions[number].action, event.action) << "instruction " << number;
        seen.insert(number);
      }
      EXPECT_EQ(seen.size(), program->instructions.size()) << "rank " << rank;
    }
  }
}

}  // namespace
}  // namespace plait
