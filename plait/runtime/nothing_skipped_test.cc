// Every action of a schedule has an instruction: what `plait make --lower` prints runs whole.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "plait/ir/action_text.h"
#include "plait/passes/passes.h"
#include "plait/program/check_program.h"
#include "plait/runtime/driver.h"
#include "plait/runtime/inproc_comm.h"
#include "plait/schedule/generators.h"
#include "tests/support/world.h"

namespace plait {
namespace {

VerifiedSchedule lowered(const std::string& name,
                         std::string_view passes = kLoweringPassesWithWaits) {
  auto verified = verify(*run_passes(passes, *generate(name, {2, 4})));
  EXPECT_TRUE(verified) << name << " " << passes;
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
      EXPECT_GT(found[ActionType::kWaitReduceGrad], 0) << name;
      EXPECT_GT(found[ActionType::kWaitSendF] + found[ActionType::kWaitSendB], 0) << name;
    }
  }
}

TEST(NothingIsSkipped, TheSecondProofCountsThem) {
  const VerifiedSchedule schedule = lowered("gpipe");
  for (const ActionType type : {ActionType::kUnshard, ActionType::kReshard, ActionType::kReduceGrad,
                                ActionType::kWaitReduceGrad, ActionType::kWaitSendB}) {
    std::vector<RankProgram> programs = programs_of(schedule);
    RankProgram& program = programs[1];
    // The last one, as nothing else has its number then: the instructions behind it move up.
    std::size_t skipped = program.instructions.size();
    while (program.instructions[--skipped].action.type != type) {
    }
    program.instructions.erase(program.instructions.begin() + static_cast<std::ptrdiff_t>(skipped));
    for (auto& order : program.lanes) {
      std::erase(order, static_cast<std::int32_t>(skipped));
      for (std::int32_t& index : order) index -= index > static_cast<std::int32_t>(skipped) ? 1 : 0;
    }
    for (Instruction& one : program.instructions)
      one.wait -= one.wait > static_cast<std::int32_t>(skipped) ? 1 : 0;
    const std::vector<ProgramViolation> found = check_programs(schedule, programs);
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].rank, 1);
    const std::string text = "1" + std::string(type_name(type)) +
                             (has_microbatch(type) ? std::string("3") : std::string());
    EXPECT_EQ(found[0].message, text + " is 1 times in the schedule and 0 times in the program");
  }
}

TEST(NothingIsSkipped, WhatHasNothingToDoChangesNoBit) {
  for (const char* name : {"gpipe", "dualpipe-v", "zbv"}) {
    for (const std::string_view passes : {kLoweringPasses, kLoweringPassesWithWaits}) {
      const VerifiedSchedule schedule = lowered(name, passes);
      const std::vector<RankProgram> programs = programs_of(schedule);
      for (unsigned seed = 0; seed < 100; ++seed) {
        testing::SeededRun run(programs, schedule.placement(), {});
        ASSERT_EQ(testing::run_seeded(run.executors, run.world, seed), testing::Outcome::kEnded);
        ASSERT_EQ(run.stages.results(), testing::reference(schedule.schedule())) << name;
      }
    }
  }
}

TEST(NothingIsSkipped, ARankThatWaitsForASendNamesIt) {
  const VerifiedSchedule schedule =
      lowered("gpipe", std::string(kLoweringPassesWithWaits) + ",limit-sends=1");
  const std::vector<RankProgram> programs = programs_of(schedule);
  testing::SeededRun run(programs, schedule.placement(), {testing::Matching::kRank, false, -1});
  Executor& first = *run.executors[0];
  first.begin_step();
  for (int turn = 0; turn < 3; ++turn) {
    first.advance(Lane::kCompute, -1);
    first.advance(Lane::kCommunication, -1);
  }
  // All its forwards have run, and only the first was sent.
  EXPECT_EQ(first.status(), "waits in 0WAIT_SEND_F0 to rank 1");
  EXPECT_EQ(first.doing().awaited_rank, 1);
  EXPECT_EQ(run.world.most_outstanding(), 1);
}

/// The most messages of a rank that are sent and not received, at any time of a run.
int most_outstanding(const std::string& name, const std::string& limit, testing::Matching matching,
                     unsigned seed) {
  const VerifiedSchedule schedule = lowered(name, std::string(kLoweringPassesWithWaits) + limit);
  const std::vector<RankProgram> programs = programs_of(schedule);
  testing::SeededRun run(programs, schedule.placement(), {matching, false, -1});
  EXPECT_EQ(testing::run_seeded(run.executors, run.world, seed), testing::Outcome::kEnded) << name;
  EXPECT_EQ(run.stages.results(), testing::reference(schedule.schedule())) << name;
  return run.world.most_outstanding();
}

TEST(NothingIsSkipped, WaitsKeepSendsBackUnderEveryMatching) {
  for (const char* name : {"gpipe", "dualpipe-v", "zbv", "interleaved-1f1b"}) {
    for (const testing::Matching matching :
         {testing::Matching::kEdge, testing::Matching::kPair, testing::Matching::kRank}) {
      int without = 0;
      for (unsigned seed = 0; seed < 50; ++seed) {
        EXPECT_EQ(most_outstanding(name, ",limit-sends=1", matching, seed), 1) << name;
        without = std::max(without, most_outstanding(name, "", matching, seed));
      }
      EXPECT_GT(without, 1) << name;
    }
  }
}

}  // namespace
}  // namespace plait
