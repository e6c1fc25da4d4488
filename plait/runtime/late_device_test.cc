#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "plait/passes/lowering.h"
#include "plait/passes/passes.h"
#include "plait/program/rank_program.h"
#include "plait/runtime/driver.h"
#include "plait/runtime/executor.h"
#include "plait/runtime/inproc_comm.h"
#include "plait/schedule/generators.h"
#include "tests/support/late_world.h"

namespace plait {
namespace {

using testing::Between;
using testing::LateCall;
using testing::LateMutation;
using testing::LateNeeds;
using testing::LateRun;
using testing::LateStage;
using testing::LateWorld;
using testing::Matching;
using testing::MutantDevice;
using testing::Outcome;

struct Shape {
  std::string schedule;
  int ranks;
  int microbatches;
  int members = 1;  ///< of an expert group; with more than one, stages have exchanges
  bool braid = false;
  bool recompute = false;
  int replicas = 1;                    ///< with more than one, gradients add up over them
  ShardMode shard = ShardMode::kNone;  ///< of the replicas

  std::string name() const {
    return schedule + " P=" + std::to_string(ranks) + " M=" + std::to_string(microbatches) +
           " members=" + std::to_string(members) + (braid ? " braided" : "") +
           (recompute ? " recomputed" : "") + (replicas > 1 ? " replicated" : "") +
           (shard == ShardMode::kNone ? "" : " cut " + std::string(name_of(shard)));
  }
};

/// The stages of all columns of a case, on plain arrays, and the sums of their gradients.
class Model {
 public:
  Model(const Shape& shape, const Placement& placement) {
    if (shape.replicas > 1) {
      sums.resize(static_cast<std::size_t>(shape.ranks) * static_cast<std::size_t>(shape.replicas));
      for (int column = 0; column < shape.replicas; ++column) {
        replicas_.emplace_back();
        for (int stage = 0; stage < placement.stages(); ++stage)
          replicas_.back().push_back(std::make_unique<testing::ExchangingStage>(
              stage, placement.stages(), 0, column, 1, false));
      }
    } else if (shape.members > 1) {
      exchanging_ =
          std::make_unique<testing::ExchangingStages>(placement, shape.members, shape.recompute);
    } else {
      plain_ = std::make_unique<testing::Stages>(placement);
    }
  }
  std::vector<Stage*> pointers(const Grid& grid, int rank) const {
    if (exchanging_) return exchanging_->pointers(grid.column_of(rank));
    if (plain_) return plain_->pointers(grid.pipeline_of(rank));
    std::vector<Stage*> all;
    for (const auto& stage : replicas_[static_cast<std::size_t>(grid.column_of(rank))])
      all.push_back(stage.get());
    return all;
  }
  double gradient(int column, int stage) const {
    return replicas_[static_cast<std::size_t>(column)][static_cast<std::size_t>(stage)]
        ->weight_gradients.front();
  }
  std::vector<double> results() const {
    std::vector<double> all;
    if (exchanging_) all = exchanging_->results();
    if (plain_) all = plain_->results();
    for (const auto& column : replicas_) {
      for (const auto& stage : column) {
        all.push_back(stage->loss);
        all.push_back(stage->weight_gradients.front());
      }
    }
    for (const std::map<int, double>& of_rank : sums) {
      for (const auto& [stage, sum] : of_rank) all.push_back(sum);
    }
    return all;
  }
  /// Micro-batches ascending, without the runtime.
  void run_reference(const Schedule& schedule, const Grid& grid) {
    if (exchanging_) return exchanging_->run_reference(schedule);
    for (int mb = 0; mb < schedule.microbatches; ++mb) {
      SideBySide columns{{}, {}, 1};
      if (plain_) {
        columns.columns.emplace_back();
        for (int stage = 0; stage < schedule.placement.stages(); ++stage)
          columns.columns.back().push_back(plain_->of(schedule.copy_of(mb), stage));
      } else {
        for (int column = 0; column < grid.columns(); ++column)
          columns.columns.push_back(pointers(grid, column));
      }
      ASSERT_TRUE(run_side_by_side(columns, mb, !schedule.forward_only));
    }
    for (std::size_t rank = 0; rank < sums.size(); ++rank) {
      for (const int stage :
           schedule.placement.stages_of(grid.pipeline_of(static_cast<int>(rank)))) {
        for (int column = 0; column < grid.columns(); ++column)
          sums[rank][stage] += gradient(column, stage);
      }
    }
  }

  std::vector<std::map<int, double>> sums;  ///< by rank and stage

 private:
  std::unique_ptr<testing::ExchangingStages> exchanging_;
  std::unique_ptr<testing::Stages> plain_;
  std::vector<std::vector<std::unique_ptr<testing::ExchangingStage>>> replicas_;  // by column
};

/// Adds up one number a stage over the columns, and gathers one of each column, in kernels.
class LateReducer final : public Reducer {
 public:
  LateReducer(Model& model, const Grid& grid, int rank, testing::LateDevice& device)
      : model_(model), grid_(grid), rank_(rank), device_(device) {}

  Expected<std::unique_ptr<ExchangeValue>> scatter(int stage, Group) override {
    return outgoing([this, stage] { return model_.gradient(grid_.column_of(rank_), stage); });
  }
  Expected<std::unique_ptr<ExchangeValue>> gather(int, Group, Value rows) override {
    return outgoing([this, from = pieces(rows)] {
      double sum = 0;
      for (const double row : device_.read(from)) sum += row;
      return sum;
    });
  }
  /// Of sums, or of the addends where each column keeps its own.
  Expected<void> finish(int stage, Group, Value arrived) override {
    device_.launch([this, stage, from = pieces(arrived)] {
      const std::vector<double> came = device_.read(from);
      double sum = came.front();
      if (cut_) {
        for (std::size_t other = 1; other < came.size(); ++other) sum += came[other];
      }
      model_.sums[static_cast<std::size_t>(rank_)][stage] = sum;
    });
    return {};
  }

  /// What an optimiser does between two steps: on the compute lane it writes the own number.
  void update(const std::vector<int>& stages) {
    cut_ = true;
    device_.enter(Lane::kCompute);
    for (const int stage : stages) {
      own_[stage] = device_.allocate_lasting();
      device_.launch([this, to = own_[stage].ref(), mine = number_of(stage, own_column())] {
        device_.write(to, {mine});
      });
    }
    device_.leave(Lane::kCompute);
  }
  Expected<std::unique_ptr<ExchangeValue>> unshard(int stage, int, Group) override {
    return outgoing([this, from = own_.at(stage).ref()] { return device_.read(from).front(); });
  }
  Expected<void> end_unshard(int stage, int, Group, Value slices) override {
    whole_[stage] = device_.allocate();
    device_.launch([this, from = pieces(slices), to = whole_[stage].ref()] {
      device_.write(to, device_.read(from));
    });
    return {};
  }
  Expected<void> reshard(int stage, int) override {
    whole_.erase(stage);
    return {};
  }
  /// Before a part of the stage computes.
  Expected<void> use(int stage) {
    if (!cut_) return {};
    const auto found = whole_.find(stage);
    if (found == whole_.end()) return fail(ErrorCode::kRuntime, "its numbers are not there");
    device_.launch([this, stage, from = found->second.ref()] {
      std::vector<double> expected;
      for (int column = 0; column < grid_.columns(); ++column)
        expected.push_back(number_of(stage, column));
      if (device_.read(from) != expected) throw testing::LateFault("other numbers than gathered");
    });
    return {};
  }
  void free_all() {
    own_.clear();
    whole_.clear();
  }

 private:
  int own_column() const { return grid_.column_of(rank_); }
  static double number_of(int stage, int column) { return 10.0 * stage + column; }
  static testing::LatePieces pieces(const Value& value) {
    return static_cast<const testing::LateValue&>(*value).numbers.pieces();
  }
  /// One number, the same for each member.
  template <typename Make>
  std::unique_ptr<ExchangeValue> outgoing(Make make) {
    testing::LateMemory memory = device_.allocate();
    device_.launch([this, make, to = memory.ref()] {
      device_.write(to, std::vector<double>(static_cast<std::size_t>(grid_.columns()), make()));
    });
    return std::make_unique<testing::LateExchange>(std::move(memory), grid_.columns());
  }

  Model& model_;
  Grid grid_;
  int rank_;
  testing::LateDevice& device_;
  bool cut_ = false;
  std::map<int, testing::LateMemory> own_, whole_;  // by stage
};

/// Reads the stage's gathered numbers before each part.
class NeedyStage final : public Stage {
 public:
  NeedyStage(Stage& inner, int stage, LateReducer& reducer)
      : inner_(inner), stage_(stage), reducer_(reducer) {}

  Expected<ForwardResult> forward(PartOf part, Value input, bool for_backward) override {
    PLAIT_TRY_VOID(reducer_.use(stage_));
    return inner_.forward(part, std::move(input), for_backward);
  }
  Expected<BackwardInputResult> backward_input(PartOf part, Value saved, Value gradient) override {
    PLAIT_TRY_VOID(reducer_.use(stage_));
    return inner_.backward_input(part, std::move(saved), std::move(gradient));
  }
  Expected<void> backward_weight(PartOf part, Value saved) override {
    PLAIT_TRY_VOID(reducer_.use(stage_));
    return inner_.backward_weight(part, std::move(saved));
  }
  Expected<Value> backward(PartOf part, Value saved, Value gradient) override {
    PLAIT_TRY_VOID(reducer_.use(stage_));
    return inner_.backward(part, std::move(saved), std::move(gradient));
  }
  Expected<Value> recompute(PartOf part, Value saved) override {
    return inner_.recompute(part, std::move(saved));
  }
  Expected<ExchangeStart> start_exchange(PartOf part, Value input, bool for_backward) override {
    return inner_.start_exchange(part, std::move(input), for_backward);
  }
  Expected<ExchangeStart> start_exchange_back(PartOf part, Value saved, Value gradient) override {
    return inner_.start_exchange_back(part, std::move(saved), std::move(gradient));
  }
  Value end_exchange(Value carried, Value arrived) noexcept override {
    return inner_.end_exchange(std::move(carried), std::move(arrived));
  }

 private:
  Stage& inner_;
  int stage_;
  LateReducer& reducer_;
};

VerifiedSchedule proven(const Shape& shape) {
  Schedule schedule = *generate(shape.schedule, {shape.ranks, shape.microbatches});
  if (shape.shard != ShardMode::kNone)
    schedule = *insert_unshard(std::move(schedule), {.number = 1, .price = {}});
  if (shape.replicas > 1) schedule = *insert_reduce_grad(std::move(schedule), {});
  // A reduction that ends later may be over by a gather that was awaited in between.
  if (shape.shard == ShardMode::kParameters)
    schedule = *insert_reduce_wait(std::move(schedule), {});
  return *verify(*insert_messages(std::move(schedule)));
}

/// A schedule, its programs, and the results of its stages one after the other.
struct Case {
  explicit Case(const Shape& of)
      : shape(of), schedule(proven(of)), grid{of.ranks, of.replicas, of.members} {
    const auto stages = static_cast<std::size_t>(schedule.placement().stages());
    LowerOptions options;
    options.braid = shape.braid;
    options.shapes.resize(stages, StageShape(1));
    if (shape.members > 1) {
      options.shapes =
          testing::ExchangingStages(schedule.placement(), shape.members, shape.recompute).shapes();
    }
    if (shape.replicas > 1) options.reduced.resize(stages, {Group::kReplicas});
    options.shard = shape.shard;
    if (shape.shard != ShardMode::kNone) options.sharded = options.reduced;
    for (int rank = 0; rank < shape.ranks; ++rank)
      programs.push_back(*lower(schedule, rank, options));
    Model model({of.schedule, of.ranks, of.microbatches, of.members, of.braid, false, of.replicas},
                schedule.placement());
    model.run_reference(schedule.schedule(), grid);
    expected = model.results();
  }

  Shape shape;
  VerifiedSchedule schedule;
  Grid grid;
  std::vector<RankProgram> programs;
  std::vector<double> expected;
};

/// What is wrong with the device or the comm of one rank.
struct Fault {
  int rank = -1;
  LateMutation mutation;
  int early_operation = -1;
};

/// All ranks of a case on late devices, for one step.
class Ranks {
 public:
  Ranks(const Case& given, testing::WorldOptions options, const Fault& fault = {},
        Between between = Between::kTransport)
      : given_(given),
        model_(given.shape, given.schedule.placement()),
        world(given.grid, options, between) {
    for (int rank = 0; rank < given.grid.ranks(); ++rank) {
      const auto r = static_cast<std::size_t>(rank);
      Device* device = &world.devices[r];
      if (rank == fault.rank) {
        mutant_ = std::make_unique<MutantDevice>(world.devices[r], fault.mutation);
        device = mutant_.get();
        world.comms[r].pass_early(fault.early_operation);
      }
      world.use(rank, *device);
      reducers_.emplace_back(model_, given.grid, rank, world.devices[r]);
      if (given.shape.shard != ShardMode::kNone)
        reducers_.back().update(given.schedule.placement().stages_of(given.grid.pipeline_of(rank)));
      executors.push_back(std::make_unique<Executor>(
          program_of(rank), stages_of(rank), world.comm(rank),
          Column{given.grid.columns(), given.grid.column_of(rank)}, &reducers_.back(), device));
    }
  }

  ~Ranks() { is_free(); }  // while there are devices

  LateRun run(unsigned seed) { return world.run(executors, seed); }
  std::vector<double> results() const { return model_.results(); }
  /// Whether nothing of the step is left on any device.
  bool is_free() {
    for (LateReducer& reducer : reducers_) reducer.free_all();
    return std::all_of(world.devices.begin(), world.devices.end(),
                       [](const testing::LateDevice& device) { return device.in_use() == 0; });
  }
  const RankProgram& program_of(int rank) const {
    return given_.programs[static_cast<std::size_t>(given_.grid.pipeline_of(rank))];
  }

 private:
  std::vector<Stage*> stages_of(int rank) {
    const std::vector<Stage*> inner = model_.pointers(given_.grid, rank);
    std::vector<Stage*> late;
    for (std::size_t stage = 0; stage < inner.size(); ++stage) {
      late_.push_back(std::make_unique<LateStage>(
          *inner[stage], program_of(rank).shapes[stage], stage == 0, stage + 1 == inner.size(),
          given_.shape.members, world.devices[static_cast<std::size_t>(rank)]));
      needy_.emplace_back(*late_.back(), static_cast<int>(stage), reducers_.back());
      late.push_back(&needy_.back());
    }
    return late;
  }

  const Case& given_;
  Model model_;
  std::vector<std::unique_ptr<LateStage>> late_;
  std::deque<NeedyStage> needy_;
  std::deque<LateReducer> reducers_;
  std::unique_ptr<MutantDevice> mutant_;

 public:
  LateWorld world;
  std::vector<std::unique_ptr<Executor>> executors;  ///< by rank; their values are the devices'
};

testing::WorldOptions options_of(unsigned seed) {
  return {static_cast<Matching>(seed % 4), seed % 3 == 0, -1};
}

unsigned seeds() {
  const char* asked = std::getenv("PLAIT_LATE_SEEDS");
  return asked == nullptr ? 200 : static_cast<unsigned>(std::stoul(asked));
}

const std::vector<Shape> kShapes = {
    {"gpipe", 2, 3},
    {"1f1b", 3, 4},
    {"dualpipe-v", 1, 3},
    {"dualpipe-v", 2, 4},
    {"dualpipe-v", 3, 6},
    {"dualpipe", 2, 4},
    {"forward-only", 3, 3},
    {"zbv", 2, 4},
    {"v-half", 2, 4},
    {"interleaved-zero-bubble", 2, 4},
    {"1f1b", 2, 3, 2},
    {"1f1b", 2, 2, 2, false, true},
    {"dualpipe-v", 1, 3, 2, true},
    {"dualpipe-v", 1, 3, 2, true, true},
    {"dualpipe-v", 2, 4, 2, true},
    {"zbv", 2, 4, 2, true},
    {"1f1b", 2, 3, 1, false, false, 2},
    {"gpipe", 1, 2, 1, false, false, 3},
    {"dualpipe-v", 2, 4, 1, false, false, 2},
    {"zbv", 2, 4, 1, false, false, 2},
    {"1f1b", 2, 3, 1, false, false, 2, ShardMode::kOptimizer},
    {"zbv", 2, 4, 1, false, false, 2, ShardMode::kParameters},
    {"dualpipe-v", 2, 4, 1, false, false, 2, ShardMode::kParameters}};

class LateDevices : public ::testing::TestWithParam<Shape> {};

TEST_P(LateDevices, EverySeedGivesTheBitsOfTheReference) {
  const Case given(GetParam());
  for (unsigned seed = 0; seed < seeds(); ++seed) {
    Ranks ranks(given, options_of(seed));
    const LateRun run = ranks.run(seed);
    ASSERT_EQ(run.outcome, Outcome::kEnded) << run.fault << ", seed " << seed;
    ASSERT_EQ(ranks.results(), given.expected) << "seed " << seed;
    ASSERT_TRUE(ranks.is_free());
  }
}

TEST_P(LateDevices, HandedOverWithMarksEverySeedGivesTheBitsOfTheReference) {
  const Case given(GetParam());
  for (unsigned seed = 0; seed < seeds(); ++seed) {
    Ranks ranks(given, options_of(seed), {}, Between::kHandedOver);
    const LateRun run = ranks.run(seed);
    ASSERT_EQ(run.outcome, Outcome::kEnded) << run.fault << ", seed " << seed;
    ASSERT_EQ(ranks.results(), given.expected) << "seed " << seed;
    ASSERT_TRUE(ranks.is_free());
  }
}

TEST_P(LateDevices, TimesAreThoseOfTheDevice) {
  const Case given(GetParam());
  for (const Between between : {Between::kTransport, Between::kHandedOver}) {
    Ranks ranks(given, options_of(1), {}, between);
    ASSERT_EQ(ranks.run(1).outcome, Outcome::kEnded);
    for (const auto& executor : ranks.executors) {
      ASSERT_TRUE(executor->end_step());
      const auto& times = executor->times();
      for (std::size_t i = 0; i < times.size(); ++i) {
        const Instruction& instruction = executor->program().instructions[i];
        // Handing over takes no time.
        if (between == Between::kTransport || instruction.lane == Lane::kCompute) {
          EXPECT_LT(times[i][0], times[i][1]);
        } else {
          EXPECT_LE(times[i][0], times[i][1]);
        }
        // A gather waits for room, which is there when its RESHARD was issued.
        if (instruction.wait != kNoWait && instruction.opcode != Opcode::kUnshardGather) {
          EXPECT_GE(times[i][0], times[static_cast<std::size_t>(instruction.wait)][1]);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Schedules, LateDevices, ::testing::ValuesIn(kShapes),
                         [](const auto& given) {
                           std::string name = given.param.name();
                           std::replace_if(
                               name.begin(), name.end(),
                               [](char c) { return std::isalnum(c) == 0; }, '_');
                           return name;
                         });

// ---- mutants

class LateMutants : public ::testing::TestWithParam<std::pair<Shape, Between>> {
 protected:
  static constexpr unsigned kSeeds = 400;

  /// Whether some seed shows that something is wrong.
  static bool caught(const Case& given, const Fault& fault) {
    const Between between = GetParam().second;
    for (unsigned seed = 0; seed < kSeeds; ++seed) {
      Ranks ranks(given, options_of(seed), fault, between);
      if (ranks.run(seed).outcome != Outcome::kEnded || ranks.results() != given.expected)
        return true;
    }
    return false;
  }
  static LateNeeds needs_of(const Case& given, int rank, unsigned seed) {
    Ranks ranks(given, options_of(seed), {}, GetParam().second);
    EXPECT_EQ(ranks.run(seed).outcome, Outcome::kEnded);
    return ranks.world.devices[static_cast<std::size_t>(rank)].needs();
  }
};

TEST_P(LateMutants, WhatIsNeededIsTheSameInEveryOrder) {
  const Case given(GetParam().first);
  for (int rank = 0; rank < given.grid.ranks(); ++rank) {
    const LateNeeds first = needs_of(given, rank, 4);
    for (const unsigned seed : {8U, 16U, 32U}) {
      const LateNeeds other = needs_of(given, rank, seed);
      EXPECT_EQ(first.waits, other.waits);
      EXPECT_EQ(first.marks, other.marks);
      EXPECT_EQ(first.holds, other.holds);
    }
  }
}

TEST_P(LateMutants, EveryNeededWaitThatIsLeftOutIsCaught) {
  const Case given(GetParam().first);
  int tried = 0;
  for (int rank = 0; rank < given.grid.ranks(); ++rank) {
    for (const LateCall& wait : needs_of(given, rank, 4).waits) {
      ++tried;
      EXPECT_TRUE(caught(given, {rank, {{wait}, {}, {}}}))
          << "rank " << rank << ", wait " << wait.second;
    }
  }
  EXPECT_GT(tried, given.grid.ranks());
}

TEST_P(LateMutants, EveryMarkThatIsTakenTooEarlyIsCaught) {
  const Case given(GetParam().first);
  int tried = 0;
  for (int rank = 0; rank < given.grid.ranks(); ++rank) {
    for (const LateCall& mark : needs_of(given, rank, 4).marks) {
      ++tried;
      EXPECT_TRUE(caught(given, {rank, {{}, {mark}, {}}}))
          << "rank " << rank << ", mark " << mark.second;
    }
    Ranks ranks(given, options_of(0), {}, GetParam().second);
    ASSERT_EQ(ranks.run(0).outcome, Outcome::kEnded);
    for (const int operation : ranks.world.comms[static_cast<std::size_t>(rank)].receiving()) {
      ++tried;
      EXPECT_TRUE(caught(given, {rank, {}, operation}))
          << "rank " << rank << ", operation " << operation;
    }
  }
  EXPECT_GT(tried, given.grid.ranks());
}

TEST_P(LateMutants, EveryFreeWithoutTheReadersLaneIsCaught) {
  const Case given(GetParam().first);
  int tried = 0;
  for (int rank = 0; rank < given.grid.ranks(); ++rank) {
    for (const std::set<LateCall>& holds : needs_of(given, rank, 4).holds) {
      ++tried;
      EXPECT_TRUE(caught(given, {rank, {{}, {}, holds}}))
          << "rank " << rank << ", hold " << holds.begin()->second;
    }
  }
  EXPECT_GT(tried, given.grid.ranks());
}

const std::vector<Shape> kMutatedShapes = {
    {"1f1b", 2, 2},
    {"dualpipe-v", 2, 4},
    {"1f1b", 2, 2, 2},
    {"1f1b", 2, 2, 1, false, false, 2},
    {"1f1b", 2, 2, 1, false, false, 2, ShardMode::kOptimizer},
    {"v-half", 1, 2, 1, false, false, 2, ShardMode::kParameters},
    {"dualpipe-v", 1, 3, 2, true, true}};

std::vector<std::pair<Shape, Between>> all_over(Between between) {
  std::vector<std::pair<Shape, Between>> all;
  for (const Shape& shape : kMutatedShapes) all.emplace_back(shape, between);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Schedules, LateMutants,
                         ::testing::ValuesIn(all_over(Between::kTransport)));
INSTANTIATE_TEST_SUITE_P(HandedOver, LateMutants,
                         ::testing::ValuesIn(all_over(Between::kHandedOver)));

// ---- threads

/// Passes every mark at once, and remembers whether a second thread worked on it.
class OwnThreadDevice final : public Device {
 public:
  bool asynchronous() const override { return true; }
  void enter(Lane) override { note(); }
  void leave(Lane) override {}
  Mark record(Lane) override {
    note();
    return {++marks_};
  }
  void wait(Lane, Mark) override { note(); }
  void hold(Lane, const Payload&) override { note(); }
  Mark adopt(std::span<const DeviceMark>) override { return {++marks_}; }
  bool passed(Mark) const override { return true; }
  Nanoseconds when(Mark) const override { return now(); }
  void forget_marks() override { owner_ = std::this_thread::get_id(); }
  MemoryProbe* memory() override { return nullptr; }
  bool foreign() const { return foreign_.load(); }

 private:
  void note() {
    if (std::this_thread::get_id() != owner_) foreign_.store(true);
  }
  std::thread::id owner_;
  std::atomic<std::uint64_t> marks_ = 0;
  std::atomic<bool> foreign_ = false;
};

TEST(Chaining, NoCompletionWorksOnTheDeviceOfAnotherRank) {
  const Case given({"dualpipe-v", 2, 5, 2, true});
  for (const testing::Driving how : testing::kDrivings) {
    testing::ExchangingStages stages(given.schedule.placement(), 2);
    InprocWorld world(given.grid);
    std::deque<OwnThreadDevice> devices(static_cast<std::size_t>(given.grid.ranks()));
    std::vector<std::unique_ptr<Executor>> executors;
    for (int rank = 0; rank < given.grid.ranks(); ++rank) {
      const int column = given.grid.column_of(rank);
      world.comm(rank).use(devices[static_cast<std::size_t>(rank)]);
      executors.push_back(std::make_unique<Executor>(
          given.programs[static_cast<std::size_t>(given.grid.pipeline_of(rank))],
          stages.pointers(column), world.comm(rank), Column{given.grid.columns(), column}, nullptr,
          &devices[static_cast<std::size_t>(rank)]));
    }
    const Expected<void> ran = run_ranks(
        given.grid.ranks(),
        [&](int rank) {
          return run_step(*executors[static_cast<std::size_t>(rank)], how.wait, how.chaining);
        },
        [&](const Error& error) { world.abort(error); });
    ASSERT_TRUE(ran) << ran.error().text();
    EXPECT_EQ(stages.results(), given.expected);
    for (const OwnThreadDevice& device : devices) EXPECT_FALSE(device.foreign());
  }
}

}  // namespace
}  // namespace plait
