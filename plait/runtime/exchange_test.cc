#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "plait/passes/insert_comm.h"
#include "plait/passes/limit_sends.h"
#include "plait/passes/passes.h"
#include "plait/program/check_program.h"
#include "plait/program/rank_program.h"
#include "plait/runtime/driver.h"
#include "plait/runtime/executor.h"
#include "plait/runtime/inproc_comm.h"
#include "plait/schedule/generators.h"
#include "tests/support/exchange_world.h"

namespace plait {
namespace {

using testing::ExchangingStages;
using testing::Outcome;
using testing::run_seeded;
using testing::TestWorld;

struct Shape {
  std::string schedule;
  int ranks;
  int microbatches;
  int members;
  bool waits = false;  ///< for its sends
};

const std::vector<Shape> kShapes = {{"1f1b", 3, 4, 2},       {"dualpipe-v", 1, 3, 2},
                                    {"dualpipe-v", 2, 5, 2}, {"dualpipe-v", 2, 4, 4},
                                    {"zbv", 2, 4, 2},        {"forward-only", 3, 4, 2},
                                    {"gpipe", 2, 3, 1},      {"dualpipe-v", 3, 6, 2, true}};

VerifiedSchedule proven(const Shape& shape) {
  Schedule schedule = *insert_comm(*generate(shape.schedule, {shape.ranks, shape.microbatches}));
  if (shape.waits) schedule = *insert_send_wait(std::move(schedule), {});
  auto verified = verify(std::move(schedule));
  EXPECT_TRUE(verified);
  return *verified;
}

/// A schedule, its programs for stages with exchanges, and what they must give.
struct Case {
  Case(const Shape& shape, bool braid, bool recompute = false,
       LayerOrder order = default_layer_order())
      : schedule(proven(shape)), grid{shape.ranks, 1, shape.members} {
    ExchangingStages stages(schedule.placement(), shape.members);
    LowerOptions options;
    options.shapes = ExchangingStages(schedule.placement(), shape.members, recompute).shapes();
    options.braid = braid;
    options.order = std::move(order);
    for (int rank = 0; rank < shape.ranks; ++rank)
      programs.push_back(*lower(schedule, rank, options));
    stages.run_reference(schedule.schedule());
    expected = stages.results();
  }
  std::vector<std::unique_ptr<Executor>> executors(const ExchangingStages& stages,
                                                   const std::function<Comm&(int)>& comm) const {
    std::vector<std::unique_ptr<Executor>> all;
    for (int rank = 0; rank < grid.ranks(); ++rank) {
      const int column = grid.column_of(rank);
      all.push_back(std::make_unique<Executor>(
          programs[static_cast<std::size_t>(grid.pipeline_of(rank))], stages.pointers(column),
          comm(rank), Column{grid.columns(), column}));
    }
    return all;
  }

  VerifiedSchedule schedule;
  Grid grid;
  std::vector<RankProgram> programs;
  std::vector<double> expected;
};

TEST(Exchange, InterleavingsGiveTheSameBitsBraidedAndInSequence) {
  for (const bool braid : {false, true}) {
    for (const Shape& shape : kShapes) {
      const Case given(shape, braid);
      for (unsigned seed = 0; seed < 300; ++seed) {
        ExchangingStages stages(given.schedule.placement(), shape.members);
        TestWorld world(given.grid, {testing::Matching::kKey, seed % 3 == 0, -1});
        auto executors =
            given.executors(stages, [&](int rank) -> Comm& { return world.comm(rank); });
        ASSERT_EQ(run_seeded(executors, world, seed), Outcome::kEnded)
            << shape.schedule << " seed " << seed << " braid " << braid;
        ASSERT_EQ(stages.results(), given.expected) << shape.schedule << " seed " << seed;
      }
    }
  }
}

TEST(Exchange, RecomputingGivesTheSameBits) {
  for (const bool braid : {false, true}) {
    for (const Shape& shape : kShapes) {
      const Case given(shape, braid, true);
      EXPECT_TRUE(check_programs(given.schedule, given.programs).empty()) << shape.schedule;
      for (unsigned seed = 0; seed < 50; ++seed) {
        ExchangingStages stages(given.schedule.placement(), shape.members, true);
        TestWorld world(given.grid, {testing::Matching::kKey, seed % 3 == 0, -1});
        auto executors =
            given.executors(stages, [&](int rank) -> Comm& { return world.comm(rank); });
        ASSERT_EQ(run_seeded(executors, world, seed), Outcome::kEnded) << shape.schedule;
        ASSERT_EQ(stages.results(), given.expected) << shape.schedule << " seed " << seed;
      }
    }
  }
}

// Recomputes long before their B, and a W behind a later part's.
TEST(Exchange, AnOrderOfOnesOwnGivesTheSameBits) {
  LayerOrder order = default_layer_order();
  order.compute = {{"attn", SegmentOf::kRecompute},      {"mlp", SegmentOf::kRecompute},
                   {"attn", SegmentOf::kForward},        {"mlp", SegmentOf::kBackwardInput},
                   {"mlp", SegmentOf::kForward},         {"attn", SegmentOf::kBackwardInput},
                   {"attn", SegmentOf::kBackwardWeight}, {"mlp", SegmentOf::kBackwardWeight}};
  for (const Shape& shape : kShapes) {
    const Case given(shape, true, true, order);
    EXPECT_TRUE(check_programs(given.schedule, given.programs).empty()) << shape.schedule;
    for (unsigned seed = 0; seed < 20; ++seed) {
      ExchangingStages stages(given.schedule.placement(), shape.members, true);
      TestWorld world(given.grid, {testing::Matching::kKey, seed % 3 == 0, -1});
      auto executors = given.executors(stages, [&](int rank) -> Comm& { return world.comm(rank); });
      ASSERT_EQ(run_seeded(executors, world, seed), Outcome::kEnded) << shape.schedule;
      ASSERT_EQ(stages.results(), given.expected) << shape.schedule << " seed " << seed;
    }
  }
}

TEST(Exchange, ThreadsGiveTheSameBits) {
  for (const bool braid : {false, true}) {
    for (const testing::Driving how : testing::kDrivings) {
      for (const Shape& shape : kShapes) {
        const Case given(shape, braid);
        for (int step = 0; step < 5; ++step) {
          ExchangingStages stages(given.schedule.placement(), shape.members);
          InprocWorld world(given.grid);
          auto executors =
              given.executors(stages, [&](int rank) -> Comm& { return world.comm(rank); });
          const Expected<void> result = run_ranks(
              given.grid.ranks(),
              [&](int rank) {
                return run_step(*executors[static_cast<std::size_t>(rank)], how.wait, how.chaining);
              },
              [&](const Error& error) { world.abort(error); });
          ASSERT_TRUE(result) << result.error().text();
          ASSERT_EQ(stages.results(), given.expected) << shape.schedule;
        }
      }
    }
  }
}

TEST(Exchange, PairsAreCountedAsTheyRan) {
  const Shape shape{"dualpipe-v", 2, 5, 2};
  for (const bool braid : {false, true}) {
    const Case given(shape, braid);
    ExchangingStages stages(given.schedule.placement(), shape.members);
    TestWorld world(given.grid, {});
    auto executors = given.executors(stages, [&](int rank) -> Comm& { return world.comm(rank); });
    ASSERT_EQ(run_seeded(executors, world, 1), Outcome::kEnded);
    int pairs = 0;
    for (const Action& action : given.schedule.schedule().ranks[0])
      pairs += action.type == ActionType::kOverlapFB ? 1 : 0;
    ASSERT_GT(pairs, 0);
    EXPECT_EQ(executors[0]->counts().pairs_braided, braid ? pairs : 0);
    EXPECT_EQ(executors[0]->counts().pairs_in_sequence, braid ? 0 : pairs);
  }
}

TEST(Exchange, ASendLeavesBehindItsMembersLastPart) {
  const Case given({"dualpipe-v", 2, 5, 2}, true);
  int inside = 0;
  for (const RankProgram& program : given.programs) {
    for (std::size_t i = 1; i + 1 < program.instructions.size(); ++i) {
      const Instruction& instruction = program.instructions[i];
      if (instruction.opcode != Opcode::kSend) continue;
      const Instruction& before = program.instructions[i - 1];
      const Instruction& after = program.instructions[i + 1];
      inside += before.braided && after.braided && before.pair == after.pair ? 1 : 0;
    }
  }
  EXPECT_GT(inside, 0);
}

/// Sends and waits for sends that a program has inside its braided pairs.
int messages_inside(const std::vector<RankProgram>& programs, Opcode opcode) {
  int inside = 0;
  for (const RankProgram& program : programs) {
    std::int32_t pair = -1;  // the last braided one that began
    for (std::size_t i = 0; i < program.instructions.size(); ++i) {
      const Instruction& one = program.instructions[i];
      if (one.braided) pair = one.pair;
      if (one.opcode != opcode || pair < 0) continue;
      inside +=
          std::any_of(program.instructions.begin() + static_cast<std::ptrdiff_t>(i),
                      program.instructions.end(),
                      [&](const Instruction& later) { return later.braided && later.pair == pair; })
              ? 1
              : 0;
    }
  }
  return inside;
}

// 6WAIT_SEND_F2 between (1F5;6B2) and 1SEND_F5 goes into the pair with it; as many sends leave
// early as without waits.
TEST(Exchange, ASendBehindTheWaitOfItsPairLeavesInside) {
  const Case without({"dualpipe-v", 3, 8, 2}, true);
  const Case with({"dualpipe-v", 3, 8, 2, true}, true);
  EXPECT_GT(messages_inside(without.programs, Opcode::kSend), 0);
  EXPECT_EQ(messages_inside(with.programs, Opcode::kSend),
            messages_inside(without.programs, Opcode::kSend));
  EXPECT_GT(messages_inside(with.programs, Opcode::kWaitSend), 0);
}

// A wait for another send may need what the pair makes: it and the send behind it stay outside.
TEST(Exchange, ASendBehindAnotherWaitStaysBehindThePair) {
  const VerifiedSchedule schedule = proven({"dualpipe-v", 3, 8, 2, true});
  const VerifiedSchedule few = *verify(*limit_sends(Schedule(schedule.schedule()), 1));
  LowerOptions options;
  options.shapes = ExchangingStages(schedule.placement(), 2).shapes();
  options.braid = true;
  std::vector<RankProgram> programs;
  for (int rank = 0; rank < 3; ++rank) programs.push_back(*lower(few, rank, options));
  EXPECT_TRUE(check_programs(few, programs).empty());
  for (const RankProgram& program : programs) {
    int outstanding = 0;
    for (const Instruction& one : program.instructions) {
      outstanding += one.opcode == Opcode::kSend ? 1 : one.opcode == Opcode::kWaitSend ? -1 : 0;
      EXPECT_LE(outstanding, 1) << "rank " << program.rank;
    }
  }
}

TEST(Exchange, TheSecondProofAcceptsWhatIsLowered) {
  for (const GeneratorInfo& info : kGenerators) {
    for (int ranks = 1; ranks <= 4; ++ranks) {
      if (!generate(info.name, {ranks, 4 * ranks})) continue;
      for (const int variant : {0, 1, 2, 3}) {
        const bool braid = variant % 2 == 1, waits = variant >= 2;
        const VerifiedSchedule schedule =
            proven({std::string(info.name), ranks, 4 * ranks, 2, waits});
        LowerOptions options;
        options.shapes = ExchangingStages(schedule.placement(), 2).shapes();
        options.braid = braid;
        std::vector<RankProgram> programs;
        for (int rank = 0; rank < ranks; ++rank)
          programs.push_back(*lower(schedule, rank, options));
        for (const ProgramViolation& violation : check_programs(schedule, programs)) {
          ADD_FAILURE() << info.name << " rank " << violation.rank << " instruction "
                        << violation.instruction << ": " << violation.message;
        }
      }
    }
  }
}

TEST(Exchange, TheSecondProofCatchesEveryKindOfMutant) {
  const Case given({"dualpipe-v", 3, 8, 2, true}, true);
  std::mt19937 random(3);
  const auto caught = [&](const char* kind, auto mutate) {
    int tried = 0;
    for (int i = 0; i < 900; ++i) {
      std::vector<RankProgram> programs = given.programs;
      RankProgram& program = programs[random() % programs.size()];
      if (!mutate(program, program.instructions[random() % program.instructions.size()])) continue;
      ++tried;
      EXPECT_FALSE(check_programs(given.schedule, programs).empty()) << kind;
    }
    EXPECT_GT(tried, 10) << kind;
  };
  caught("a reader does not wait for its exchange", [&](RankProgram& program, Instruction& one) {
    if (one.wait == kNoWait) return false;
    if (!is_exchange(program.instructions[static_cast<std::size_t>(one.wait)].opcode)) return false;
    one.wait = kNoWait;
    return true;
  });
  caught("a wait behind the send that it stands before",
         [](RankProgram& program, Instruction& one) {
           const auto index = static_cast<std::size_t>(&one - program.instructions.data());
           if (one.opcode != Opcode::kSend || index == 0) return false;
           Instruction& before = program.instructions[index - 1];
           if (before.opcode != Opcode::kWaitSend) return false;
           std::swap(one, before);
           return true;
         });
  caught("another part", [](RankProgram&, Instruction& one) {
    if (!one.braided) return false;
    one.part += 1;
    return true;
  });
  caught("an exchange that goes the wrong way", [&](RankProgram&, Instruction& one) {
    if (!is_exchange(one.opcode)) return false;
    one.opcode = one.opcode == Opcode::kExchange ? Opcode::kExchangeBack : Opcode::kExchange;
    return true;
  });
  caught("W before its I", [](RankProgram& program, Instruction& one) {
    if (one.opcode != Opcode::kBackwardWeight || !one.braided) return false;
    for (Instruction& other : program.instructions) {
      if (other.opcode != Opcode::kBackwardInput || other.action != one.action ||
          other.part != one.part)
        continue;
      std::swap(one, other);
      return true;
    }
    return false;
  });
}

TEST(Exchange, ErrorsNameRankPartAndMember) {
  const Case given({"1f1b", 2, 2, 2}, false);
  ExchangingStages stages(given.schedule.placement(), 2);
  TestWorld world(given.grid, {testing::Matching::kKey, false, -1});
  auto executors = given.executors(stages, [&](int rank) -> Comm& { return world.comm(rank); });
  for (auto& executor : executors) executor->begin_step();
  executors[1]->advance(Lane::kCompute, -1);
  executors[1]->advance(Lane::kCommunication, -1);
  EXPECT_EQ(executors[1]->status(), "waits in 0F0 counts 0");
  EXPECT_EQ(executors[1]->rank(), 1);
}

}  // namespace
}  // namespace plait
