#include "plait/program/peak_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "plait/passes/insert_comm.h"
#include "plait/schedule/generators.h"
#include "tests/support/exchange_world.h"

namespace plait {
namespace {

using testing::Outcome;
using testing::run_seeded;
using testing::TestWorld;

/// What is alive on one rank.
struct Tally {
  Bytes live = 0, peak = 0;
  void add(Bytes bytes) { peak = std::max(peak, live += bytes); }
};

class Counted : public Payload {
 public:
  Counted(Tally& tally, Bytes size) : tally_(tally), size_(size) { tally_.add(size_); }
  ~Counted() override { tally_.add(-size_); }
  Bytes bytes() const override { return size_; }

 private:
  Tally& tally_;
  Bytes size_;
};

/// A share of rows, all of which live until the last share is freed.
class CountedShare final : public Payload {
 public:
  explicit CountedShare(std::shared_ptr<Counted> of) : rows_(std::move(of)) {}
  Bytes bytes() const override { return 0; }

 private:
  std::shared_ptr<Counted> rows_;
};

class Pieces final : public Payload {
 public:
  explicit Pieces(std::vector<Value> of) : pieces(std::move(of)) {}
  Bytes bytes() const override { return 0; }
  std::vector<Value> pieces;
};

class CountedExchange final : public ExchangeValue {
 public:
  CountedExchange(Tally& tally, Bytes size) : rows_(std::make_shared<Counted>(tally, size)) {}
  Bytes bytes() const override { return rows_->bytes(); }
  Bytes bytes_leaving() const override { return bytes(); }
  Value share_for(int) override { return std::make_unique<CountedShare>(rows_); }
  Value join(std::vector<Value> shares) override {
    return std::make_unique<Pieces>(std::move(shares));
  }

 private:
  std::shared_ptr<Counted> rows_;
};

/// Holds and makes what a PartMemory says, and no more.
class CountedStage final : public Stage {
 public:
  CountedStage(Tally& tally, std::vector<PartMemory> parts, StageShape shape, Bytes output,
               Bytes input_gradient)
      : tally_(tally),
        parts_(std::move(parts)),
        shape_(std::move(shape)),
        output_(output),
        input_gradient_(input_gradient) {}

  Expected<ForwardResult> forward(PartOf at, Value, bool for_backward) override {
    work(for_backward ? part(at).forward : part(at).forward_only);
    ForwardResult result;
    result.output = make(next_input(at));
    if (for_backward) result.saved = make(part(at).saved);
    return result;
  }
  Expected<Value> recompute(PartOf at, Value) override {
    work(part(at).recompute);
    return make(part(at).recomputed);
  }
  Expected<BackwardInputResult> backward_input(PartOf at, Value, Value) override {
    work(part(at).backward_input);
    return BackwardInputResult{gradient_before(at), make(part(at).saved_for_weight)};
  }
  Expected<void> backward_weight(PartOf at, Value) override {
    work(part(at).backward_weight);
    return {};
  }
  Expected<Value> backward(PartOf at, Value, Value) override {
    work(part(at).backward);
    return gradient_before(at);
  }
  Expected<ExchangeStart> start_exchange(PartOf at, Value input, bool) override {
    input.reset();
    return exchange(part(at).sent);
  }
  Expected<ExchangeStart> start_exchange_back(PartOf at, Value, Value gradient) override {
    gradient.reset();
    return exchange(part(at).sent_back);
  }
  Value end_exchange(Value, Value arrived) noexcept override { return arrived; }

 private:
  const PartMemory& part(PartOf at) const { return parts_[static_cast<std::size_t>(at.part)]; }
  Value make(Bytes size) { return std::make_unique<Counted>(tally_, size); }
  void work(Bytes size) { const Counted made(tally_, size); }
  Bytes next_input(PartOf at) const {
    const auto next = static_cast<std::size_t>(at.part) + 1;
    return next < parts_.size() ? parts_[next].input : output_;
  }
  Value gradient_before(PartOf at) {
    int before = at.part - 1;
    while (before >= 0 && !shape_[static_cast<std::size_t>(before)].has_backward) --before;
    return make(before < 0 ? input_gradient_ : parts_[static_cast<std::size_t>(before)].gradient);
  }
  ExchangeStart exchange(Bytes size) {
    ExchangeStart start;
    start.exchange = std::make_unique<CountedExchange>(tally_, size);
    start.saved = make(0);
    return start;
  }

  Tally& tally_;
  std::vector<PartMemory> parts_;
  StageShape shape_;
  Bytes output_, input_gradient_;
};

struct Shape {
  std::string schedule;
  int ranks, microbatches, members;
};

/// A schedule's programs, memory drawn for each of its parts, and what of it ranks may need.
struct Case {
  Case(const Shape& shape, bool braid, unsigned seed) : grid{shape.ranks, 1, shape.members} {
    const auto schedule =
        verify(*insert_comm(*generate(shape.schedule, {shape.ranks, shape.microbatches}))).value();
    LowerOptions options;
    options.shapes =
        testing::ExchangingStages(schedule.placement(), shape.members, seed % 2 == 0).shapes();
    if (shape.members == 1) options.shapes.assign(options.shapes.size(), StageShape(1));
    options.braid = braid;
    for (int rank = 0; rank < shape.ranks; ++rank)
      programs.push_back(*lower(schedule, rank, options));
    shapes = options.shapes;
    std::mt19937 random(seed);
    for (const StageShape& stage : shapes) {
      parts.emplace_back();
      for (const PartShape& part : stage) parts.back().push_back(draw(random, part));
    }
    planned = peak_memory(programs, parts);
  }

  static PartMemory draw(std::mt19937& random, const PartShape& part) {
    const auto some = [&](Bytes most) { return static_cast<Bytes>(random() % 100) * most / 100; };
    PartMemory memory;
    memory.input = some(100);
    memory.gradient = some(100);
    if (part.lane == Lane::kCommunication) {
      if (part.has_backward) memory.sent = some(1000);
      if (part.has_backward) memory.sent_back = some(1000);
      return memory;
    }
    memory.saved = some(1000);
    memory.recomputed = some(3000);
    memory.saved_for_weight = some(1000);
    for (Bytes* made : {&memory.forward, &memory.forward_only, &memory.recompute,
                        &memory.backward_input, &memory.backward, &memory.backward_weight})
      *made = some(500);
    return memory;
  }

  /// The most of what each rank needs, of what was planned for it.
  double run(unsigned seed) const {
    std::vector<Tally> tallies(static_cast<std::size_t>(grid.ranks()));
    std::vector<std::unique_ptr<CountedStage>> stages;
    TestWorld world(grid, {testing::Matching::kKey, seed % 3 == 0, -1});
    std::vector<std::unique_ptr<Executor>> executors;
    for (int rank = 0; rank < grid.ranks(); ++rank) {
      std::vector<Stage*> mine;
      for (std::size_t s = 0; s < parts.size(); ++s) {
        stages.push_back(std::make_unique<CountedStage>(
            tallies[static_cast<std::size_t>(rank)], parts[s], shapes[s],
            s + 1 < parts.size() ? parts[s + 1].front().input : 0,
            s > 0 ? parts[s - 1].back().gradient : 0));
        mine.push_back(stages.back().get());
      }
      executors.push_back(std::make_unique<Executor>(
          programs[static_cast<std::size_t>(grid.pipeline_of(rank))], std::move(mine),
          world.comm(rank), Column{grid.columns(), grid.column_of(rank)}));
    }
    EXPECT_EQ(run_seeded(executors, world, seed), Outcome::kEnded);
    double most = 0;
    for (int rank = 0; rank < grid.ranks(); ++rank) {
      const Bytes peak = tallies[static_cast<std::size_t>(rank)].peak;
      const Bytes plan = planned[static_cast<std::size_t>(grid.pipeline_of(rank))];
      EXPECT_LE(peak, plan) << "rank " << rank << " seed " << seed;
      most = std::max(most, static_cast<double>(peak) / static_cast<double>(plan));
    }
    executors.clear();
    return most;
  }

  Grid grid;
  std::vector<RankProgram> programs;
  std::vector<StageShape> shapes;
  std::vector<std::vector<PartMemory>> parts;
  std::vector<Bytes> planned;
};

TEST(PeakMemory, NoOrderNeedsMoreThanIsPlanned) {
  for (const Shape& shape :
       {Shape{"gpipe", 3, 5, 1}, Shape{"1f1b", 3, 4, 1}, Shape{"1f1b", 3, 4, 2},
        Shape{"dualpipe-v", 1, 3, 2}, Shape{"dualpipe-v", 2, 5, 2}, Shape{"dualpipe-v", 2, 4, 4},
        Shape{"zbv", 3, 5, 1}, Shape{"zbv", 2, 4, 2}, Shape{"forward-only", 3, 4, 2},
        Shape{"forward-only", 3, 4, 1}}) {
    for (unsigned drawn = 0; drawn < 4; ++drawn) {
      const Case given(shape, drawn >= 2, drawn);
      double most = 0;
      for (unsigned seed = 0; seed < 60; ++seed) most = std::max(most, given.run(seed));
      SCOPED_TRACE(::testing::Message() << shape.schedule << " members " << shape.members);
      EXPECT_GE(most, 0.5) << drawn;
    }
  }
}

Bytes peak_of(const std::string& schedule, int microbatches, const PartMemory& part) {
  const auto verified = verify(*insert_comm(*generate(schedule, {1, microbatches}))).value();
  return peak_memory({*lower(verified, 0)}, {{part}}).front();
}

// One rank, one stage: all forwards, then all backwards.
TEST(PeakMemory, IsWhatIsSavedAndWhatTheLastInstructionMakes) {
  PartMemory part;
  part.saved = 100;
  part.forward = 7;
  EXPECT_EQ(peak_of("gpipe", 3, part), 3 * 100 + 7);
  part.backward = 50;
  EXPECT_EQ(peak_of("gpipe", 3, part), 3 * 100 + 50);
  EXPECT_EQ(peak_of("1f1b", 3, part), 100 + 50);
}

}  // namespace
}  // namespace plait
