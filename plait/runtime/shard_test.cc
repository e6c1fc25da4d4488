// Stages whose numbers are shared out among replicas: gathered in time, freed in time, and no
// program that the second proof accepts computes without them.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "plait/passes/passes.h"
#include "plait/program/check_program.h"
#include "plait/program/programs.h"
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

constexpr std::array kCutting{ShardMode::kOptimizer, ShardMode::kGradients, ShardMode::kParameters};

/// One rank's numbers: of each stage and group one for each member, of which it owns one.
class SharedNumbers final : public Reducer {
 public:
  SharedNumbers(const std::vector<std::unique_ptr<ExchangingStage>>& stages, const Grid& grid,
                int column)
      : stages_(stages), grid_(grid), column_(column) {}

  Expected<std::unique_ptr<ExchangeValue>> scatter(int stage, Group group) override {
    std::vector<double> slices;
    for (int member = 0; member < members(group); ++member)
      slices.push_back(gradient(stage) * (member + 1));
    return std::make_unique<NumbersExchange>(std::move(slices), members(group));
  }
  Expected<void> finish(int stage, Group group, Value addends) override {
    double sum = 0;
    for (const double one : numbers_in(addends)) sum += one;
    sums[{stage, group}] = sum;
    return {};
  }
  Expected<std::unique_ptr<ExchangeValue>> unshard(int stage, int, Group group) override {
    asked_.insert(stage);
    most_asked = std::max(most_asked, asked_.size());
    return std::make_unique<NumbersExchange>(
        std::vector<double>(static_cast<std::size_t>(members(group)),
                            number_of(stage, member(group))),
        members(group));
  }
  Expected<void> end_unshard(int stage, int, Group group, Value slices) override {
    whole_[{stage, group}] = numbers_in(slices);
    return {};
  }
  Expected<void> reshard(int stage, int) override {
    for (const Group group : {Group::kReplicas, Group::kData}) whole_[{stage, group}].clear();
    asked_.erase(stage);
    return {};
  }

  bool is_whole(int stage, Group group) const {
    std::vector<double> expected;
    for (int member = 0; member < members(group); ++member)
      expected.push_back(number_of(stage, member));
    const auto found = whole_.find({stage, group});
    return found != whole_.end() && found->second == expected;
  }
  double gradient(int stage) const {
    return stages_[static_cast<std::size_t>(stage)]->weight_gradients.front();
  }

  std::map<std::pair<int, Group>, double> sums;  ///< of the own slice
  std::size_t most_asked = 0;  ///< stages between the issue of a gather and RESHARD

 private:
  int members(Group group) const { return group == Group::kData ? grid_.data : grid_.columns(); }
  int member(Group group) const { return group == Group::kData ? column_ / grid_.expert : column_; }
  static double number_of(int stage, int member) { return 100.0 * stage + member; }

  const std::vector<std::unique_ptr<ExchangingStage>>& stages_;
  Grid grid_;
  int column_;
  std::map<std::pair<int, Group>, std::vector<double>> whole_;
  std::set<int> asked_;
};

/// Computes only with whole numbers.
class NeedyStage final : public Stage {
 public:
  NeedyStage(Stage& inner, int stage, std::vector<Group> groups, const SharedNumbers& numbers)
      : inner_(inner), stage_(stage), groups_(std::move(groups)), numbers_(numbers) {}

  Expected<ForwardResult> forward(PartOf part, Value input, bool for_backward) override {
    PLAIT_TRY_VOID(check());
    return inner_.forward(part, std::move(input), for_backward);
  }
  Expected<BackwardInputResult> backward_input(PartOf part, Value saved, Value gradient) override {
    PLAIT_TRY_VOID(check());
    return inner_.backward_input(part, std::move(saved), std::move(gradient));
  }
  Expected<void> backward_weight(PartOf part, Value saved) override {
    PLAIT_TRY_VOID(check());
    return inner_.backward_weight(part, std::move(saved));
  }
  Expected<Value> backward(PartOf part, Value saved, Value gradient) override {
    PLAIT_TRY_VOID(check());
    return inner_.backward(part, std::move(saved), std::move(gradient));
  }

 private:
  Expected<void> check() const {
    for (const Group group : groups_) {
      if (!numbers_.is_whole(stage_, group))
        return fail(ErrorCode::kRuntime, "computes without its numbers");
    }
    return {};
  }

  Stage& inner_;
  int stage_;
  std::vector<Group> groups_;
  const SharedNumbers& numbers_;
};

/// `unshard`: the pass and its number.
VerifiedSchedule proven(const std::string& name, const ScheduleShape& shape, ShardMode mode,
                        const std::string& unshard = "insert-unshard=3") {
  return *prove_lowered(*run_passes(unshard, *generate(name, shape)), {true, mode});
}

LowerOptions cutting(const VerifiedSchedule& schedule, ShardMode mode) {
  LowerOptions options;
  for (int stage = 0; stage < schedule.placement().stages(); ++stage) {
    options.reduced.push_back({Group::kReplicas});
    if (stage % 2 == 1) options.reduced.back().push_back(Group::kData);
  }
  options.sharded = options.reduced;
  options.shard = mode;
  return options;
}

std::vector<RankProgram> programs_of(const VerifiedSchedule& schedule, ShardMode mode) {
  std::vector<RankProgram> programs;
  for (int rank = 0; rank < schedule.placement().ranks; ++rank)
    programs.push_back(*lower(schedule, rank, cutting(schedule, mode)));
  return programs;
}

/// The ranks of a grid, each column with its own numbers, over programs that outlive them.
struct Ranks {
  Ranks(const VerifiedSchedule& schedule, const std::vector<RankProgram>& of, const Grid& on)
      : programs(of), grid(on) {
    const int all = schedule.placement().stages();
    for (int column = 0; column < grid.columns(); ++column) {
      stages.emplace_back();
      for (int stage = 0; stage < all; ++stage)
        stages.back().push_back(std::make_unique<ExchangingStage>(stage, all, 0, column, 1, false));
    }
    for (int rank = 0; rank < grid.ranks(); ++rank)
      numbers.emplace_back(stages[static_cast<std::size_t>(grid.column_of(rank))], grid,
                           grid.column_of(rank));
  }
  template <typename CommOf>
  std::vector<std::unique_ptr<Executor>> executors(const CommOf& comm) {
    std::vector<std::unique_ptr<Executor>> made;
    for (int rank = 0; rank < grid.ranks(); ++rank) {
      const int column = grid.column_of(rank);
      const RankProgram& program = programs[static_cast<std::size_t>(grid.pipeline_of(rank))];
      std::vector<Stage*> pointers;
      int number = 0;
      for (const auto& stage : stages[static_cast<std::size_t>(column)]) {
        needy_.emplace_back(*stage, number, program.sharded[static_cast<std::size_t>(number)],
                            numbers[static_cast<std::size_t>(rank)]);
        pointers.push_back(&needy_.back());
        ++number;
      }
      made.push_back(std::make_unique<Executor>(program, pointers, comm(rank),
                                                Column{grid.columns(), column},
                                                &numbers[static_cast<std::size_t>(rank)]));
    }
    return made;
  }
  /// Every rank has the sums of its own slices.
  bool has_sums(const VerifiedSchedule& schedule) const {
    for (int rank = 0; rank < grid.ranks(); ++rank) {
      const SharedNumbers& mine = numbers[static_cast<std::size_t>(rank)];
      for (const int stage : schedule.placement().stages_of(grid.pipeline_of(rank))) {
        double all = 0, experts = 0;
        const int own = grid.column_of(rank), place = own / grid.expert;
        for (int column = 0; column < grid.columns(); ++column) {
          const double one =
              stages[static_cast<std::size_t>(column)][static_cast<std::size_t>(stage)]
                  ->weight_gradients.front();
          all += one * (own + 1);
          if (column % grid.expert == own % grid.expert) experts += one * (place + 1);
        }
        if (all == 0 || mine.sums.at({stage, Group::kReplicas}) != all) return false;
        if (stage % 2 == 1 && mine.sums.at({stage, Group::kData}) != experts) return false;
      }
    }
    return true;
  }

  const std::vector<RankProgram>& programs;
  Grid grid;
  std::vector<std::vector<std::unique_ptr<ExchangingStage>>> stages;  // by column, by stage
  std::deque<SharedNumbers> numbers;                                  // by rank

 private:
  std::deque<NeedyStage> needy_;
};

/// Whether the seed's order ends, and with the right sums.
Outcome run_once(const VerifiedSchedule& schedule, const std::vector<RankProgram>& programs,
                 const Grid& grid, unsigned seed) {
  Ranks ranks(schedule, programs, grid);
  TestWorld world(grid, {static_cast<testing::Matching>(seed % 4), seed % 3 == 0, -1});
  auto executors = ranks.executors([&](int rank) -> Comm& { return world.comm(rank); });
  const Outcome outcome = run_seeded(executors, world, seed);
  if (outcome != Outcome::kEnded) return outcome;
  return ranks.has_sums(schedule) ? outcome : Outcome::kFailed;
}

TEST(Shard, EveryInterleavingComputesWithWholeNumbers) {
  for (const char* name : {"gpipe", "1f1b", "dualpipe-v", "zbv", "interleaved-1f1b"}) {
    for (const Grid& grid : {Grid{2, 2, 1}, Grid{2, 2, 2}, Grid{1, 3, 1}}) {
      if (grid.pipeline == 1 && name[0] == 'i') continue;
      for (const ShardMode mode : kCutting) {
        const VerifiedSchedule schedule = proven(name, {grid.pipeline, 4}, mode);
        const std::vector<RankProgram> programs = programs_of(schedule, mode);
        const auto found = check_programs(schedule, programs);
        ASSERT_TRUE(found.empty()) << name << ": " << found.front().message;
        for (unsigned seed = 0; seed < 40; ++seed) {
          ASSERT_EQ(run_once(schedule, programs, grid, seed), Outcome::kEnded)
              << name << " " << name_of(mode) << " seed " << seed;
        }
      }
    }
  }
}

TEST(Shard, ThreadsDoTheSame) {
  const Grid grid{2, 2, 2};
  const VerifiedSchedule schedule = proven("dualpipe-v", {2, 4}, ShardMode::kParameters);
  const std::vector<RankProgram> programs = programs_of(schedule, ShardMode::kParameters);
  for (const testing::Driving how : testing::kDrivings) {
    for (int step = 0; step < 20; ++step) {
      Ranks ranks(schedule, programs, grid);
      InprocWorld world(grid);
      auto executors = ranks.executors([&](int rank) -> Comm& { return world.comm(rank); });
      const Expected<void> result = run_ranks(
          grid.ranks(),
          [&](int rank) {
            return run_step(*executors[static_cast<std::size_t>(rank)], how.wait, how.chaining);
          },
          [&](const Error& error) { world.abort(error); });
      ASSERT_TRUE(result) << result.error().text();
      EXPECT_TRUE(ranks.has_sums(schedule));
    }
  }
}

TEST(Shard, NoMoreStagesAreThereThanTheListSays) {
  const Grid grid{2, 2, 1};
  for (const int most : {1, 2, 3}) {
    const VerifiedSchedule schedule = proven("interleaved-1f1b", {2, 4}, ShardMode::kParameters,
                                             "insert-unshard=" + std::to_string(most));
    const std::vector<RankProgram> programs = programs_of(schedule, ShardMode::kParameters);
    std::size_t seen = 0;
    for (unsigned seed = 0; seed < 40; ++seed) {
      Ranks ranks(schedule, programs, grid);
      TestWorld world(grid, {});
      auto executors = ranks.executors([&](int rank) -> Comm& { return world.comm(rank); });
      ASSERT_EQ(run_seeded(executors, world, seed), Outcome::kEnded);
      for (const SharedNumbers& one : ranks.numbers) seen = std::max(seen, one.most_asked);
    }
    EXPECT_EQ(seen, std::min<std::size_t>(static_cast<std::size_t>(most), 2));
  }
}

TEST(Shard, GathersRunUnderCompute) {
  const VerifiedSchedule schedule = proven("interleaved-1f1b", {2, 4}, ShardMode::kParameters);
  int under = 0;
  for (const RankProgram& program : programs_of(schedule, ShardMode::kParameters)) {
    std::set<int> open;  // stages
    for (const Instruction& one : program.instructions) {
      if (one.opcode == Opcode::kUnshardGather) open.insert(one.action.stage);
      if (one.opcode == Opcode::kUnshardEnd) open.erase(one.action.stage);
      under += !open.empty() && one.opcode == Opcode::kForward ? 1 : 0;
    }
  }
  EXPECT_GT(under, 0);
}

TEST(Shard, ParametersThatStayWholeAreGatheredOnceAStep) {
  for (const ShardMode mode : kCutting) {
    const VerifiedSchedule schedule = proven("interleaved-1f1b", {2, 4}, mode, "insert-unshard=1");
    for (const RankProgram& program : programs_of(schedule, mode)) {
      std::map<int, int> gathers, unshards;
      for (const Instruction& one : program.instructions) {
        if (one.action.type != ActionType::kUnshard || one.group == Group::kData) continue;
        gathers[one.action.stage] += one.opcode == Opcode::kUnshardGather ? 1 : 0;
        unshards[one.action.stage] += one.opcode == Opcode::kUnshardEnd ? 0 : 1;
      }
      for (const auto& [stage, count] : gathers) {
        EXPECT_GT(unshards[stage], 1);
        EXPECT_EQ(count, mode == ShardMode::kParameters ? unshards[stage] : 1);
      }
    }
  }
}

TEST(Shard, AStageWithoutItsActionIsRefused) {
  const VerifiedSchedule schedule =
      *verify(*run_passes("insert-reduce-grad,insert-comm", *generate("1f1b", {2, 4})));
  const Expected<RankProgram> program =
      lower(schedule, 1, cutting(schedule, ShardMode::kOptimizer));
  ASSERT_FALSE(program);
  EXPECT_EQ(program.error().message,
            "stage 1 has no UNSHARD on rank 1, needed one as several ranks share out its "
            "parameters");
}

/// Instruction i + 1 before instruction i.
void swap_with_next(RankProgram& program, std::size_t i) {
  std::swap(program.instructions[i], program.instructions[i + 1]);
  const auto first = static_cast<std::int32_t>(i);
  for (Instruction& one : program.instructions) {
    if (one.wait == first) {
      one.wait = first + 1;
    } else if (one.wait == first + 1) {
      one.wait = first;
    }
  }
  program.lanes = {};
  for (std::size_t at = 0; at < program.instructions.size(); ++at)
    program.lanes[static_cast<std::size_t>(program.instructions[at].lane)].push_back(
        static_cast<std::int32_t>(at));
}

TEST(Shard, TheSecondProofCatchesEveryKindOfMutant) {
  const VerifiedSchedule schedule =
      proven("dualpipe-v", {2, 5}, ShardMode::kParameters, "insert-unshard=2");
  const std::vector<RankProgram> right = programs_of(schedule, ShardMode::kParameters);
  ASSERT_TRUE(check_programs(schedule, right).empty());
  const auto caught = [&](const char* kind, auto mutate) {
    testing::expect_caught(schedule, right, kind, mutate);
  };
  const auto changed = [&](const char* kind, Opcode of, auto change) {
    caught(kind, [&](RankProgram&, Instruction& one) {
      if (one.opcode != of) return false;
      change(one);
      return true;
    });
  };
  changed("a gather that is left out", Opcode::kUnshardGather,
          [](Instruction& one) { one.opcode = Opcode::kUnshard; });
  changed("a RESHARD that frees nothing", Opcode::kReshardFree,
          [](Instruction& one) { one.opcode = Opcode::kReshard; });
  changed("an end that does not wait", Opcode::kUnshardEnd,
          [](Instruction& one) { one.wait = kNoWait; });
  changed("another number", Opcode::kUnshardGather, [](Instruction& one) { ++one.part; });
  changed("another group", Opcode::kUnshardGather, [](Instruction& one) {
    one.group = one.group == Group::kData ? Group::kReplicas : Group::kData;
  });
  caught("a part of the stage before its gather's end", [](RankProgram& program, Instruction& one) {
    const auto i = static_cast<std::size_t>(&one - program.instructions.data());
    if (one.opcode != Opcode::kUnshardEnd || i + 1 == program.instructions.size()) return false;
    const Instruction& next = program.instructions[i + 1];
    if (next.lane != Lane::kCompute || next.action.stage != one.action.stage ||
        !is_compute(next.action.type))
      return false;
    swap_with_next(program, i);
    return true;
  });
  caught("a RESHARD before the last part", [](RankProgram& program, Instruction& one) {
    if (one.opcode != Opcode::kReshardFree) return false;
    const int stage = one.action.stage;
    auto i = static_cast<std::size_t>(&one - program.instructions.data());
    const auto is_part_before = [&] {
      const Instruction& before = program.instructions[i - 1];
      return before.action.stage == stage && is_compute(before.action.type);
    };
    for (; !is_part_before(); --i) swap_with_next(program, i - 1);
    swap_with_next(program, i - 1);
    return true;
  });
}

TEST(Shard, WhatTheSecondProofAcceptsRunsInEveryOrder) {
  const Grid grid{2, 2, 1};
  for (const ShardMode mode : kCutting) {
    const VerifiedSchedule schedule = proven("interleaved-1f1b", {2, 4}, mode, "insert-unshard=1");
    const std::vector<RankProgram> right = programs_of(schedule, mode);
    ASSERT_TRUE(check_programs(schedule, right).empty())
        << check_programs(schedule, right).front().message;
    int accepted = 0;
    for (std::size_t rank = 0; rank < right.size(); ++rank) {
      for (std::size_t i = 0; i + 1 < right[rank].instructions.size(); ++i) {
        for (const bool swap : {true, false}) {
          std::vector<RankProgram> programs = right;
          if (swap) {
            swap_with_next(programs[rank], i);
          } else {
            programs[rank].instructions[i].wait = kNoWait;
          }
          if (!check_programs(schedule, programs).empty()) continue;
          ++accepted;
          for (unsigned seed = 0; seed < 4; ++seed) {
            ASSERT_EQ(run_once(schedule, programs, grid, seed), Outcome::kEnded)
                << name_of(mode) << " rank " << rank << " instruction " << i
                << (swap ? " swapped" : " without its wait");
          }
        }
      }
    }
    EXPECT_GT(accepted, 0);
  }
}

}  // namespace
}  // namespace plait
