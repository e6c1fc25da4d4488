#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <memory>
#include <string>

#include "plait/passes/insert_comm.h"
#include "plait/passes/passes.h"
#include "plait/program/check_program.h"
#include "plait/program/programs.h"
#include "plait/program/rank_program.h"
#include "plait/runtime/driver.h"
#include "plait/runtime/executor.h"
#include "plait/runtime/inproc_comm.h"
#include "plait/runtime/reducer.h"
#include "plait/schedule/generators.h"
#include "tests/support/exchange_world.h"
#include "tests/support/program_mutants.h"

namespace plait {
namespace {

using testing::ExchangingStage;
using testing::numbers_in;
using testing::NumbersExchange;
using testing::Outcome;
using testing::run_seeded;
using testing::TestWorld;

/// Adds up one number a stage over all columns, and its double over the replicas of experts.
class OneNumberReducer final : public Reducer {
 public:
  OneNumberReducer(const std::vector<std::unique_ptr<ExchangingStage>>& stages, const Grid& grid)
      : stages_(stages), grid_(grid), sums(stages.size(), {0, 0}) {}

  Expected<std::unique_ptr<ExchangeValue>> scatter(int stage, Group group) override {
    const double own = stages_[static_cast<std::size_t>(stage)]->weight_gradients.front() *
                       (group == Group::kData ? 2 : 1);
    std::vector<double> slices(static_cast<std::size_t>(members(group)));
    slices.front() = own;
    return std::make_unique<NumbersExchange>(std::move(slices), members(group));
  }
  Expected<std::unique_ptr<ExchangeValue>> gather(int, Group group, Value rows) override {
    double sum = 0;
    for (const double row : numbers_in(rows)) sum += row;
    return std::make_unique<NumbersExchange>(
        std::vector<double>(static_cast<std::size_t>(members(group)), sum), members(group));
  }
  Expected<void> finish(int stage, Group group, Value arrived) override {
    sums[static_cast<std::size_t>(stage)][group == Group::kData ? 1 : 0] =
        numbers_in(arrived).front();
    return {};
  }

 private:
  int members(Group group) const { return group == Group::kData ? grid_.data : grid_.columns(); }
  const std::vector<std::unique_ptr<ExchangingStage>>& stages_;
  Grid grid_;

 public:
  std::vector<std::array<double, 2>> sums;  ///< by stage
};

VerifiedSchedule proven(const std::string& name, const ScheduleShape& shape) {
  auto verified = verify(*insert_comm(*insert_reduce_grad(*generate(name, shape), {})));
  EXPECT_TRUE(verified) << name;
  return *verified;
}

LowerOptions reducing(const VerifiedSchedule& schedule) {
  LowerOptions options;
  for (int stage = 0; stage < schedule.placement().stages(); ++stage) {
    options.reduced.push_back({Group::kReplicas});
    if (stage % 2 == 1) options.reduced.back().push_back(Group::kData);
  }
  return options;
}

/// The ranks of a grid, each column with its own numbers.
struct Ranks {
  Ranks(const VerifiedSchedule& schedule, const Grid& grid) : programs(lower_all(schedule)) {
    const int all = schedule.placement().stages();
    for (int column = 0; column < grid.columns(); ++column) {
      stages.emplace_back();
      for (int stage = 0; stage < all; ++stage)
        stages.back().push_back(std::make_unique<ExchangingStage>(stage, all, 0, column, 1, false));
    }
    for (int rank = 0; rank < grid.ranks(); ++rank)
      reducers.emplace_back(stages[static_cast<std::size_t>(grid.column_of(rank))], grid);
  }
  static std::vector<RankProgram> lower_all(const VerifiedSchedule& schedule) {
    return plait::lower_all(schedule, reducing(schedule)).value();
  }
  template <typename CommOf>
  std::vector<std::unique_ptr<Executor>> executors(const Grid& grid, const CommOf& comm) {
    std::vector<std::unique_ptr<Executor>> made;
    for (int rank = 0; rank < grid.ranks(); ++rank) {
      const int column = grid.column_of(rank);
      std::vector<Stage*> pointers;
      for (const auto& stage : stages[static_cast<std::size_t>(column)])
        pointers.push_back(stage.get());
      made.push_back(std::make_unique<Executor>(
          programs[static_cast<std::size_t>(grid.pipeline_of(rank))], pointers, comm(rank),
          Column{grid.columns(), column}, &reducers[static_cast<std::size_t>(rank)]));
    }
    return made;
  }
  /// Every rank has the sums over the columns, added up in ascending order.
  void expect_sums(const VerifiedSchedule& schedule, const Grid& grid) {
    for (int rank = 0; rank < grid.ranks(); ++rank) {
      for (const int stage : schedule.placement().stages_of(grid.pipeline_of(rank))) {
        const auto s = static_cast<std::size_t>(stage);
        double all = 0, experts = 0;
        for (int column = 0; column < grid.columns(); ++column) {
          const double one = stages[static_cast<std::size_t>(column)][s]->weight_gradients.front();
          all += one;
          if (column % grid.expert == grid.column_of(rank) % grid.expert) experts += 2 * one;
        }
        // The first slice is the first member's to add up; the sums go to all.
        const auto& sums = reducers[static_cast<std::size_t>(rank)].sums[s];
        EXPECT_NE(all, 0);
        EXPECT_EQ(sums[0], all) << "rank " << rank << " stage " << stage;
        EXPECT_EQ(sums[1], stage % 2 == 1 ? experts : 0) << "rank " << rank << " stage " << stage;
      }
    }
  }

  std::vector<RankProgram> programs;
  std::vector<std::vector<std::unique_ptr<ExchangingStage>>> stages;  // by column, by stage
  std::deque<OneNumberReducer> reducers;                              // by rank
};

TEST(Reduce, InterleavingsAddUpOverTheGroupsInAscendingOrder) {
  for (const char* name : {"gpipe", "1f1b", "dualpipe-v", "zbv"}) {
    for (const Grid& grid : {Grid{2, 2, 1}, Grid{2, 1, 2}, Grid{2, 2, 2}, Grid{1, 3, 1}}) {
      const VerifiedSchedule schedule = proven(name, {grid.pipeline, 4});
      for (unsigned seed = 0; seed < 100; ++seed) {
        Ranks ranks(schedule, grid);
        TestWorld world(grid, {testing::Matching::kKey, seed % 3 == 0, -1});
        auto executors = ranks.executors(grid, [&](int rank) -> Comm& { return world.comm(rank); });
        ASSERT_EQ(run_seeded(executors, world, seed), Outcome::kEnded) << name << " seed " << seed;
        ranks.expect_sums(schedule, grid);
      }
    }
  }
}

TEST(Reduce, AReductionEndsAtItsWait) {
  for (const std::string waits : {"insert-reduce-wait", "insert-reduce-wait=1"}) {
    const std::string passes =
        "insert-reduce-grad," + waits + ",insert-comm,insert-send-wait,limit-sends=1";
    for (const char* name : {"gpipe", "1f1b", "dualpipe-v", "zbv"}) {
      const VerifiedSchedule schedule = *verify(*run_passes(passes, *generate(name, {2, 4})));
      for (const RankProgram& program : Ranks::lower_all(schedule)) {
        for (const Instruction& one : program.instructions) {
          const bool ends = one.opcode == Opcode::kReduceGather || one.opcode == Opcode::kReduceEnd;
          EXPECT_TRUE(!ends || one.action.type == ActionType::kWaitReduceGrad);
        }
      }
      for (const Grid& grid : {Grid{2, 2, 1}, Grid{2, 2, 2}}) {
        for (unsigned seed = 0; seed < 50; ++seed) {
          Ranks ranks(schedule, grid);
          ASSERT_TRUE(check_programs(schedule, ranks.programs).empty());
          TestWorld world(grid, {testing::Matching::kRank, false, -1});
          auto executors =
              ranks.executors(grid, [&](int rank) -> Comm& { return world.comm(rank); });
          ASSERT_EQ(run_seeded(executors, world, seed), Outcome::kEnded) << name << " " << seed;
          ranks.expect_sums(schedule, grid);
        }
      }
    }
  }
}

TEST(Reduce, ThreadsAddUpTheSame) {
  const Grid grid{2, 2, 2};
  const VerifiedSchedule with_waits =
      *verify(*run_passes("insert-reduce-grad,insert-reduce-wait=1,insert-comm,insert-send-wait,"
                          "limit-sends=1",
                          *generate("dualpipe-v", {2, 4})));
  for (const VerifiedSchedule& schedule : {proven("dualpipe-v", {2, 4}), with_waits}) {
    for (const testing::Driving how : testing::kDrivings) {
      for (int step = 0; step < 20; ++step) {
        Ranks ranks(schedule, grid);
        InprocWorld world(grid);
        auto executors = ranks.executors(grid, [&](int rank) -> Comm& { return world.comm(rank); });
        const Expected<void> result = run_ranks(
            grid.ranks(),
            [&](int rank) {
              return run_step(*executors[static_cast<std::size_t>(rank)], how.wait, how.chaining);
            },
            [&](const Error& error) { world.abort(error); });
        ASSERT_TRUE(result) << result.error().text();
        ranks.expect_sums(schedule, grid);
      }
    }
  }
}

TEST(Reduce, AScatterGoesOutUnderTheDrainAndNoMessageWaitsBehindAGather) {
  const VerifiedSchedule schedule = proven("1f1b", {4, 8});
  for (const RankProgram& program : Ranks::lower_all(schedule)) {
    bool gathers = false;
    for (const std::int32_t index : program.lane(Lane::kCommunication)) {
      const Opcode opcode = program.instructions[static_cast<std::size_t>(index)].opcode;
      gathers = gathers || opcode == Opcode::kReduceGather;
      EXPECT_FALSE(gathers && (opcode == Opcode::kSend || opcode == Opcode::kRecv));
    }
    EXPECT_TRUE(gathers);
  }
  // Where a rank holds two stages, the one that ends first is reduced under the other one.
  int compute_after = 0;
  for (const RankProgram& program : Ranks::lower_all(proven("dualpipe-v", {2, 6}))) {
    bool scattered = false;
    for (const Instruction& instruction : program.instructions) {
      scattered = scattered || instruction.opcode == Opcode::kReduceScatter;
      compute_after += scattered && instruction.lane == Lane::kCompute &&
                               instruction.opcode != Opcode::kReduceEnd
                           ? 1
                           : 0;
    }
  }
  EXPECT_GT(compute_after, 0);
}

TEST(Reduce, AStageWithoutItsActionIsRefused) {
  const VerifiedSchedule schedule = *verify(*insert_comm(*generate("1f1b", {2, 4})));
  const Expected<RankProgram> program = lower(schedule, 1, reducing(schedule));
  ASSERT_FALSE(program);
  EXPECT_EQ(program.error().message,
            "stage 1 has no REDUCE_GRAD on rank 1, needed one as several ranks hold its "
            "parameters");
}

TEST(Reduce, TheSecondProofCatchesEveryKindOfMutant) {
  const VerifiedSchedule schedule = proven("dualpipe-v", {2, 5});
  const std::vector<RankProgram> right = Ranks::lower_all(schedule);
  ASSERT_TRUE(check_programs(schedule, right).empty());
  const auto caught = [&](const char* kind, auto mutate) {
    testing::expect_caught(schedule, right, kind, mutate);
  };
  caught("a scatter that does not wait", [](RankProgram&, Instruction& one) {
    // Of other stages the send of the last gradient has waited already.
    if (one.opcode != Opcode::kReduceScatter || one.action.stage != 0) return false;
    one.wait = kNoWait;
    return true;
  });
  caught("another group", [](RankProgram&, Instruction& one) {
    if (one.action.type != ActionType::kReduceGrad) return false;
    one.group = one.group == Group::kData ? Group::kReplicas : Group::kData;
    return true;
  });
  caught("a gather that does not wait", [](RankProgram&, Instruction& one) {
    if (one.opcode != Opcode::kReduceGather) return false;
    one.wait = kNoWait;
    return true;
  });
  caught("an end that does not wait", [](RankProgram&, Instruction& one) {
    if (one.opcode != Opcode::kReduceEnd) return false;
    one.wait = kNoWait;
    return true;
  });
  caught("a scatter for a gather", [](RankProgram&, Instruction& one) {
    if (one.opcode != Opcode::kReduceScatter) return false;
    one.opcode = Opcode::kReduceGather;
    return true;
  });
}

}  // namespace
}  // namespace plait
