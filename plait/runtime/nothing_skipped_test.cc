// Every action of a schedule has an instruction: what `plait make --lower` prints runs whole.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "plait/passes/passes.h"
#include "plait/program/check_program.h"
#include "plait/runtime/driver.h"
#include "plait/runtime/inproc_comm.h"
#include "plait/schedule/generators.h"
#include "tests/support/world.h"

namespace plait {
namespace {

VerifiedSchedule lowered(const std::string& name) {
  auto verified = verify(*run_passes(kLoweringPasses, *generate(name, {2, 4})));
  EXPECT_TRUE(verified) << name;
  return *verified;
}

std::vector<RankProgram> programs_of(const VerifiedSchedule& schedule) {
  std::vector<RankProgram> programs;
  for (int rank = 0; rank < schedule.placement().ranks; ++rank)
    programs.push_back(*lower(schedule, rank));
  return programs;
}

TEST(NothingIsSkipped, EveryActionOfALoweredScheduleHasAnInstruction) {
  for (const char* name : {"gpipe", "1f1b", "dualpipe-v", "zbv", "interleaved-1f1b"}) {
    const VerifiedSchedule schedule = lowered(name);
    const std::vector<RankProgram> programs = programs_of(schedule);
    EXPECT_TRUE(check_programs(schedule, programs).empty()) << name;
    for (const RankProgram& program : programs) {
      std::map<ActionType, int> expected, found;
      for (const Action& action :
           schedule.schedule().ranks[static_cast<std::size_t>(program.rank)]) {
        if (action.type != ActionType::kIdle && action.type != ActionType::kOverlapFB)
          ++expected[action.type];
      }
      for (const Instruction& one : program.instructions) ++found[one.action.type];
      EXPECT_EQ(expected, found) << name << " rank " << program.rank;
      EXPECT_GT(found[ActionType::kUnshard], 0) << name;
      EXPECT_GT(found[ActionType::kReduceGrad], 0) << name;
    }
  }
}

TEST(NothingIsSkipped, TheSecondProofCountsThem) {
  const VerifiedSchedule schedule = lowered("gpipe");
  for (const ActionType type :
       {ActionType::kUnshard, ActionType::kReshard, ActionType::kReduceGrad}) {
    std::vector<RankProgram> programs = programs_of(schedule);
    RankProgram& program = programs[1];
    auto& lane = program.lanes[static_cast<std::size_t>(Lane::kCompute)];
    // The last one, as nothing else has its number then: the instructions behind it move up.
    std::size_t skipped = program.instructions.size();
    while (program.instructions[--skipped].action.type != type) {
    }
    program.instructions.erase(program.instructions.begin() + static_cast<std::ptrdiff_t>(skipped));
    std::erase(lane, static_cast<std::int32_t>(skipped));
    for (auto& order : program.lanes) {
      for (std::int32_t& index : order) index -= index > static_cast<std::int32_t>(skipped) ? 1 : 0;
    }
    for (Instruction& one : program.instructions)
      one.wait -= one.wait > static_cast<std::int32_t>(skipped) ? 1 : 0;
    const std::vector<ProgramViolation> found = check_programs(schedule, programs);
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].rank, 1);
    const char* text = type == ActionType::kUnshard   ? "1UNSHARD"
                       : type == ActionType::kReshard ? "1RESHARD"
                                                      : "1REDUCE_GRAD";
    EXPECT_EQ(found[0].message,
              std::string(text) + " is 1 times in the schedule and 0 times in the program");
  }
}

TEST(NothingIsSkipped, WhatHasNothingToDoChangesNoBit) {
  for (const char* name : {"gpipe", "dualpipe-v", "zbv"}) {
    const VerifiedSchedule schedule = lowered(name);
    const std::vector<RankProgram> programs = programs_of(schedule);
    for (unsigned seed = 0; seed < 200; ++seed) {
      testing::SeededRun run(programs, schedule.placement(), {});
      ASSERT_EQ(testing::run_seeded(run.executors, run.world, seed), testing::Outcome::kEnded);
      ASSERT_EQ(run.stages.results(), testing::reference(schedule.schedule())) << name;
    }
  }
}

}  // namespace
}  // namespace plait
