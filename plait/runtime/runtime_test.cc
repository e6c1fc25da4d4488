#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>

#include "plait/passes/insert_comm.h"
#include "plait/program/check_program.h"
#include "plait/program/rank_program.h"
#include "plait/runtime/driver.h"
#include "plait/runtime/executor.h"
#include "plait/runtime/inproc_comm.h"
#include "plait/runtime/watchdog.h"
#include "plait/schedule/generators.h"
#include "tests/support/files.h"
#include "tests/support/world.h"

namespace plait {
namespace {

using testing::Matching;
using testing::Outcome;
using testing::reference;
using testing::run_seeded;
using testing::SeededRun;
using testing::Stages;

struct Shape {
  std::string schedule;
  int ranks;
  int microbatches;
};

const std::vector<Shape> kShapes = {{"gpipe", 3, 5},
                                    {"1f1b", 4, 6},
                                    {"dualpipe-v", 1, 3},
                                    {"dualpipe-v", 2, 5},
                                    {"dualpipe-v", 3, 6},
                                    {"dualpipe-v", 4, 9},
                                    {"forward-only", 3, 4},
                                    {"dualpipe", 4, 8},
                                    {"zbv", 3, 5},
                                    {"v-half", 4, 8},
                                    {"interleaved-zero-bubble", 2, 4}};

VerifiedSchedule proven(const Shape& shape) {
  auto verified =
      verify(*insert_comm(*generate(shape.schedule, {shape.ranks, shape.microbatches})));
  EXPECT_TRUE(verified);
  return *verified;
}

std::vector<RankProgram> lower_all(const VerifiedSchedule& schedule) {
  std::vector<RankProgram> programs;
  for (int rank = 0; rank < schedule.placement().ranks; ++rank)
    programs.push_back(*lower(schedule, rank));
  return programs;
}

TEST(Runtime, AThousandInterleavingsGiveTheSameBits) {
  for (const Shape& shape : kShapes) {
    const VerifiedSchedule schedule = proven(shape);
    const std::vector<RankProgram> programs = lower_all(schedule);
    const std::vector<double> expected = reference(schedule.schedule());
    for (unsigned seed = 0; seed < 1000; ++seed) {
      const testing::WorldOptions options{static_cast<Matching>(seed % 4), seed % 3 == 0, -1};
      SeededRun run(programs, schedule.placement(), options);
      ASSERT_EQ(run_seeded(run.executors, run.world, seed), Outcome::kEnded)
          << shape.schedule << " seed " << seed;
      ASSERT_EQ(run.stages.results(), expected) << shape.schedule << " seed " << seed;
    }
  }
}

TEST(Runtime, ASeedRepeatsExactly) {
  const VerifiedSchedule schedule = proven({"dualpipe-v", 3, 7});
  const std::vector<RankProgram> programs = lower_all(schedule);
  std::array<std::string, 3> traces;
  for (unsigned i = 0; i < 3; ++i) {
    SeededRun run(programs, schedule.placement(), {});
    run_seeded(run.executors, run.world, i < 2 ? 5 : 6, &traces[i]);
  }
  EXPECT_EQ(traces[0], traces[1]);
  EXPECT_NE(traces[0], traces[2]);
}

TEST(Runtime, ADeadlockIsAState) {
  // Rank 1's compute waits for a message that rank 0 issues only after it has heard from rank 1.
  const VerifiedSchedule schedule = proven({"1f1b", 2, 2});
  std::vector<RankProgram> programs = lower_all(schedule);
  std::swap(programs[0].lanes[1][0],
            programs[0].lanes[1][3]);  // the first send behind the last receive
  std::swap(programs[0].lanes[1][0], programs[0].lanes[1][2]);
  SeededRun run(programs, schedule.placement(), {Matching::kRank, false, -1});
  EXPECT_EQ(run_seeded(run.executors, run.world, 1), Outcome::kDeadlock);
  EXPECT_EQ(run.executors[1]->status(), "waits in 1RECV_F0 from rank 0");
  EXPECT_EQ(run.executors[1]->doing().awaited_rank, 0);
}

TEST(Runtime, ABrokenLinkFailsTheStepAndNamesTheAction) {
  const VerifiedSchedule schedule = proven({"1f1b", 2, 2});
  const std::vector<RankProgram> programs = lower_all(schedule);
  SeededRun run(programs, schedule.placement(), {Matching::kKey, false, 1});
  EXPECT_EQ(run_seeded(run.executors, run.world, 1), Outcome::kFailed);
  Error error;
  for (const auto& executor : run.executors) {
    if (executor->failed()) error = executor->error();
  }
  EXPECT_EQ(error.message, "the link broke");
  EXPECT_EQ(error.where.substr(0, 5), "rank ");
}

class ThrowingStage final : public Stage {
 public:
  Expected<ForwardResult> forward(PartOf, Value, bool) override {
    throw std::runtime_error("out of memory");
  }
  Expected<BackwardInputResult> backward_input(PartOf, Value, Value) override {
    return BackwardInputResult{};
  }
  Expected<void> backward_weight(PartOf, Value) override { return {}; }
  Expected<Value> backward(PartOf, Value, Value) override { return Value(); }
};

TEST(Runtime, AnExceptionBecomesAnErrorAndEndsAllRanks) {
  const VerifiedSchedule schedule = proven({"1f1b", 2, 2});
  const std::vector<RankProgram> programs = lower_all(schedule);
  Stages stages(schedule.placement());
  ThrowingStage broken;
  InprocWorld world(2);
  std::vector<std::unique_ptr<Executor>> executors;
  for (const RankProgram& program : programs) {
    std::vector<Stage*> pointers = stages.pointers(program.rank);
    pointers[1] = &broken;
    executors.push_back(std::make_unique<Executor>(program, pointers, world.comm(program.rank)));
  }
  const Expected<void> result = run_ranks(
      2,
      [&](int rank) {
        return run_step(*executors[static_cast<std::size_t>(rank)], Wait::kSpin,
                        Chaining::kOwnThread);
      },
      [&](const Error& error) { world.abort(error); });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().text(), "rank 1 in 1F0: out of memory");
  EXPECT_EQ(executors[0]->error().message, "rank 1 failed: rank 1 in 1F0: out of memory");
}

TEST(Runtime, ThreadsGiveTheSameBits) {
  for (const testing::Driving how : testing::kDrivings) {
    for (const Shape& shape : kShapes) {
      const VerifiedSchedule schedule = proven(shape);
      const std::vector<RankProgram> programs = lower_all(schedule);
      Stages stages(schedule.placement());
      InprocWorld world(shape.ranks);
      std::vector<std::unique_ptr<Executor>> executors;
      for (const RankProgram& program : programs) {
        executors.push_back(std::make_unique<Executor>(program, stages.pointers(program.rank),
                                                       world.comm(program.rank)));
      }
      for (int step = 0; step < 20; ++step) {
        for (auto& stage : stages.owned) stage->loss = stage->weight_gradient = 0;
        const Expected<void> result = run_ranks(
            shape.ranks,
            [&](int rank) {
              return run_step(*executors[static_cast<std::size_t>(rank)], how.wait, how.chaining);
            },
            [&](const Error& error) { world.abort(error); });
        ASSERT_TRUE(result) << result.error().text();
        ASSERT_EQ(stages.results(), reference(schedule.schedule()));
      }
    }
  }
}

/// Receives wait until the test ends them; a send ends inside its call.
class HeldComm final : public Comm {
 public:
  void send(const Message&, Value, std::uint32_t token, CompletionSink& sink) override {
    ++sent;
    sink.completed(token, Value());
    sink.settled();
    ended_while_issuing |= executor->finished();
  }
  void recv(const Message&, const ValueSpec&, std::uint32_t token, CompletionSink&) override {
    received.push_back(token);
  }
  void collective(const Collective&, std::unique_ptr<ExchangeValue>, std::uint32_t,
                  CompletionSink&) override {
    FAIL() << "1F1B has none";
  }
  void abort(const Error&) override {}

  Executor* executor = nullptr;
  std::vector<std::uint32_t> received;  // tokens
  int sent = 0;
  bool ended_while_issuing = false;
};

TEST(Runtime, AStepIsNotOverWhileACompletionStillIssues) {
  // The rank's thread has run all compute before the thread that brought the last activation issues
  // what that made ready: both sends of 1F1B's last rank.
  const VerifiedSchedule schedule = proven({"1f1b", 2, 2});
  const RankProgram program = *lower(schedule, 1);
  Stages stages(schedule.placement());
  HeldComm comm;
  Executor executor(program, stages.pointers(1), comm);
  comm.executor = &executor;
  executor.begin_step();
  executor.issue_on_completion(true);
  executor.advance_communication();
  ASSERT_EQ(comm.received.size(), 2U);
  executor.completed(comm.received[0], testing::numbers({1.0, 0.5}));
  executor.settled();  // makes nothing ready: no compute has run
  executor.completed(comm.received[1], testing::numbers({1.0, 0.5}));
  executor.advance(Lane::kCompute, -1);
  ASSERT_EQ(comm.sent, 0);
  executor.settled();  // issues both sends, which end the step's messages but for this one
  EXPECT_EQ(comm.sent, 2);
  EXPECT_TRUE(executor.finished());
  EXPECT_FALSE(comm.ended_while_issuing);
}

TEST(Runtime, StepsFollowOneAnotherWhileOtherThreadsComplete) {
  // ThreadSanitizer sees a step that begins while another rank's thread still issues for the last
  // one. Threads stay alive between steps, and nothing but the messages orders them.
  const VerifiedSchedule schedule = proven({"dualpipe-v", 2, 4});
  const std::vector<RankProgram> programs = lower_all(schedule);
  Stages stages(schedule.placement());
  InprocWorld world(2);
  std::vector<std::unique_ptr<Executor>> executors;
  for (const RankProgram& program : programs) {
    executors.push_back(std::make_unique<Executor>(program, stages.pointers(program.rank),
                                                   world.comm(program.rank)));
  }
  constexpr int kSteps = 500;
  const Expected<void> result = run_ranks(
      2,
      [&](int rank) -> Expected<void> {
        for (int step = 0; step < kSteps; ++step) {
          PLAIT_TRY_VOID(run_step(*executors[static_cast<std::size_t>(rank)], Wait::kSpin,
                                  Chaining::kOnCompletion));
        }
        return {};
      },
      [&](const Error& error) { world.abort(error); });
  ASSERT_TRUE(result) << result.error().text();
  for (const auto& executor : executors) EXPECT_TRUE(executor->finished());
}

TEST(Runtime, TheWatchdogNamesWhoWaitsForWhat) {
  const VerifiedSchedule schedule = proven({"1f1b", 2, 2});
  std::vector<RankProgram> programs = lower_all(schedule);
  programs[0].lanes[1].erase(programs[0].lanes[1].begin());  // 0SEND_F0 is never issued
  Stages stages(schedule.placement());
  InprocWorld world(2);
  std::vector<std::unique_ptr<Executor>> executors;
  std::vector<Executor*> watched;
  for (const RankProgram& program : programs) {
    executors.push_back(std::make_unique<Executor>(program, stages.pointers(program.rank),
                                                   world.comm(program.rank)));
    watched.push_back(executors.back().get());
  }
  Watchdog watchdog(watched,
                    {.abort = [&](const Error& error) { world.abort(error); }, .grid = {2}});
  watchdog.set_timeout(50'000'000);
  watchdog.enter_step();
  const Expected<void> result = run_ranks(
      2,
      [&](int rank) {
        return run_step(*executors[static_cast<std::size_t>(rank)], Wait::kSpin,
                        Chaining::kOwnThread);
      },
      [&](const Error& error) { world.abort(error); });
  watchdog.leave_step();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kTimeout);
  EXPECT_EQ(result.error().message,
            "nothing has completed for 0.1 s: the ranks wait for one another: rank 0 waits for "
            "rank 1\n"
            "  rank 0 waits in 0RECV_B0 from rank 1, for 0.1 s\n"
            "  rank 1 waits in 1RECV_F0 from rank 0, for 0.1 s");
}

TEST(Lowering, TheExampleOfTheDocsIsWhatIsLowered) {
  const std::string docs = testing::read_text("docs/runtime.md");
  const RankProgram program = *lower(proven({"1f1b", 2, 2}), 1);
  ASSERT_EQ(program.instructions.size(), 8U);
  for (std::size_t i = 0; i < program.instructions.size(); ++i) {
    const Instruction& one = program.instructions[i];
    const std::string text = describe(program, one, Column{});
    const std::size_t word = std::min(text.find(' '), text.size());
    const auto number = [](std::int32_t n) { return n < 0 ? "" : std::to_string(n) + " "; };
    const std::string row = "| " + std::to_string(i) + " | " +
                            kLaneNames[static_cast<std::size_t>(one.lane)] + " | `" +
                            text.substr(0, word) + "`" + text.substr(word) + " | " +
                            number(one.wait) + "| " + number(one.in[0]) + "|";
    EXPECT_NE(docs.find(row), std::string::npos) << row;
  }
}

TEST(Lowering, LocalHandOffsNeedNoMessage) {
  // On the lowest rank of a V, the activation goes from stage P-1 to stage P in a slot.
  const VerifiedSchedule schedule = proven({"dualpipe-v", 2, 4});
  const RankProgram program = *lower(schedule, 1);
  std::int32_t handed = kNoSlot;
  for (const Instruction& instruction : program.instructions) {
    if (instruction.opcode == Opcode::kForward && instruction.action.stage == 1 &&
        instruction.action.microbatch == 0) {
      handed = instruction.out[0];
    }
    if (instruction.opcode == Opcode::kForward && instruction.action.stage == 2 &&
        instruction.action.microbatch == 0) {
      EXPECT_EQ(instruction.in[0], handed);
      EXPECT_EQ(instruction.wait, kNoWait);
    }
  }
}

TEST(Lowering, SlotsDoNotGrowWithTheNumberOfMicrobatches) {
  for (int rank = 0; rank < 4; ++rank) {
    const int few = lower(proven({"dualpipe-v", 4, 16}), rank)->slots;
    const int many = lower(proven({"dualpipe-v", 4, 64}), rank)->slots;
    EXPECT_EQ(few, many) << rank;
  }
}

TEST(CheckProgram, AcceptsWhatIsLowered) {
  for (const GeneratorInfo& info : kGenerators) {
    for (int ranks = 1; ranks <= 5; ++ranks) {
      if (!generate(info.name, {ranks, 4 * ranks})) continue;
      const VerifiedSchedule schedule = proven({std::string(info.name), ranks, 4 * ranks});
      for (const ProgramViolation& violation : check_programs(schedule, lower_all(schedule))) {
        ADD_FAILURE() << info.name << " rank " << violation.rank << ": " << violation.message;
      }
    }
  }
}

TEST(CheckProgram, CatchesEveryKindOfMutant) {
  const VerifiedSchedule schedule = proven({"dualpipe-v", 3, 7});
  const std::vector<RankProgram> sound = lower_all(schedule);
  std::mt19937 random(3);
  const auto caught = [&](const char* kind, auto mutate) {
    int tried = 0;
    for (int i = 0; i < 200; ++i) {
      std::vector<RankProgram> programs = sound;
      RankProgram& program = programs[random() % programs.size()];
      if (!mutate(program, program.instructions[random() % program.instructions.size()])) continue;
      ++tried;
      EXPECT_FALSE(check_programs(schedule, programs).empty()) << kind;
    }
    EXPECT_GT(tried, 10) << kind;
  };
  caught("a wait is missing", [](RankProgram&, Instruction& instruction) {
    if (instruction.opcode == Opcode::kSend || instruction.wait == kNoWait) return false;
    instruction.wait = kNoWait;
    return true;
  });
  caught("another slot is read", [](RankProgram& program, Instruction& instruction) {
    if (instruction.in[0] == kNoSlot) return false;
    instruction.in[0] = (instruction.in[0] + 1) % program.slots;
    return true;
  });
  caught("another slot is written", [](RankProgram& program, Instruction& instruction) {
    if (instruction.out[0] == kNoSlot) return false;
    instruction.out[0] = (instruction.out[0] + 1) % program.slots;
    return true;
  });
  caught("another peer", [](RankProgram&, Instruction& instruction) {
    if (instruction.peer < 0) return false;
    instruction.peer = (instruction.peer + 1) % 3;
    return true;
  });
  caught("a lane in another order", [&](RankProgram& program, Instruction&) {
    std::vector<std::int32_t>& lane = program.lanes[random() % 2];
    std::swap(lane[0], lane[1]);
    return true;
  });
  caught("another micro-batch", [](RankProgram&, Instruction& instruction) {
    instruction.action.microbatch = (instruction.action.microbatch + 1) % 7;
    return true;
  });
  caught("an instruction too few", [](RankProgram& program, Instruction&) {
    const auto last = static_cast<std::int32_t>(program.instructions.size()) - 1;
    for (std::vector<std::int32_t>& lane : program.lanes) std::erase(lane, last);
    program.instructions.pop_back();
    return true;
  });
}

}  // namespace
}  // namespace plait
