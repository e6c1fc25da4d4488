#include "plait/sim/bound/bounds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>

#include "plait/ir/placements.h"
#include "plait/schedule/generators.h"
#include "plait/sim/simulate.h"
#include "plait/verify/verify.h"

namespace plait {
namespace {

ActionCosts uniform_costs(int stages, Nanoseconds f, Nanoseconds i, Nanoseconds w,
                          Nanoseconds hop) {
  const auto count = static_cast<std::size_t>(stages);
  return {std::vector<Nanoseconds>(count, f), std::vector<Nanoseconds>(count, i),
          std::vector<Nanoseconds>(count, w), std::vector<Nanoseconds>(count, i + w), hop};
}

BoundProblem uniform_problem(const char* placement, int ranks, int chunks, int microbatches,
                             const ActionCosts& costs, int activations = 0) {
  BoundInput input{*place(placement, ranks, ranks * chunks), microbatches, costs};
  if (activations > 0) input.activations.assign(static_cast<std::size_t>(ranks), activations);
  return *BoundProblem::make(input);
}

Prediction run(Schedule schedule, const CostModel& costs) {
  return *simulate(*verify(std::move(schedule)), costs);
}

Nanoseconds makespan_of(std::string_view name, const ScheduleShape& shape,
                        const ActionCosts& costs) {
  CostModel model;
  model.actions = costs;
  return run(*generate(name, shape), model).makespan_ns;
}

// The last rank starts after P-1 forwards and hops: (P-1)(f+c) + M(f+i+w).
TEST(WorkBound, IsTheLastRanksHeadAndWork) {
  EXPECT_EQ(work_bound(uniform_problem("loop", 4, 1, 8, uniform_costs(4, 10, 12, 8, 1))),
            (Bound{3 * 11 + 8 * 30, "work", 3}));
}

// Each micro-batch takes r more of its rank, and no more of its path but for the last stage's r.
TEST(WorkBound, CountsWhatIsRecomputed) {
  ActionCosts costs = uniform_costs(4, 10, 12, 8, 1);
  costs.recompute = {9, 9, 9, 9};
  EXPECT_EQ(work_bound(uniform_problem("loop", 4, 1, 8, costs)),
            (Bound{3 * 11 + 8 * 39, "work", 3}));
  // One micro-batch: F F R I I W; the first stage's R runs while the gradient is made.
  ActionCosts two = uniform_costs(2, 10, 12, 8, 1);
  two.recompute = {9, 9};
  const Nanoseconds path = 10 + 1 + 10 + 9 + 12 + 1 + 12 + 8;
  EXPECT_EQ(one_machine_bound(uniform_problem("loop", 2, 1, 1, two)).makespan, path);
  EXPECT_EQ(makespan_of("zb-h1", {2, 1, 1, true}, two), path);
}

// Two copies: both ends of the pipe hold a first stage, each rank all of one micro-batch's work.
TEST(WorkBound, CountsBothCopies) {
  EXPECT_EQ(work_bound(uniform_problem("bidirectional", 4, 1, 8, uniform_costs(4, 10, 12, 8, 1))),
            (Bound{1 * 11 + 8 * 30, "work", 1}));
}

// Two ranks, one micro-batch, all costs 1: F F I I W in a row, 5; rank 0 does 3.
TEST(OneMachineBound, SeesThePathOfAMicrobatch) {
  const BoundProblem problem = uniform_problem("loop", 2, 1, 1, uniform_costs(2, 1, 1, 1, 0));
  EXPECT_EQ(work_bound(problem).makespan, 1 + 3);
  EXPECT_EQ(one_machine_bound(problem).makespan, 5);
}

// Forwards arrive on rank 1 only every 10: the last F, I, W there run from 40 to 49. Rank 1 alone
// has 4 * 9 of work after its head of 10.
TEST(OneMachineBound, RanksHeadsByTheBottleneck) {
  const ActionCosts costs{{10, 1}, {0, 1}, {0, 7}, {0, 8}, 0};
  const BoundProblem problem = uniform_problem("loop", 2, 1, 4, costs);
  EXPECT_EQ(work_bound(problem).makespan, 10 + 4 * 9);
  EXPECT_EQ(one_machine_bound(problem).makespan, 49);
}

// Neighbours that count as one job lose little: 2^12 micro-batches against the exact rule's slope.
TEST(OneMachineBound, JoinsJobsOfLargeStepsWithoutLoss) {
  ActionCosts costs = uniform_costs(8, 100, 130, 70, 5);
  costs.backward_input[3] = 400;
  const auto bound = [&](int m) {
    return one_machine_bound(uniform_problem("v", 4, 2, m, costs)).makespan;
  };
  const Nanoseconds slope = (bound(256) - bound(128)) / 128;
  EXPECT_EQ(bound(4096), bound(256) + (4096 - 256) * slope);
}

// schedule-rules table 3.4: head and tail of a capped rank for equal stages.
struct ClosedForm {
  const char* placement;
  int chunks;
  Nanoseconds (*head)(int p, int r, int cap, int f, int i, int c);
  Nanoseconds (*tail)(int p, int r, int cap, int f, int i, int w, int c);
};
const ClosedForm kClosedForms[] = {
    {"loop", 1,
     [](int p, int r, int a, int f, int i, int c) -> Nanoseconds {
       return (p - r - a) * f + (p - 1 - r) * (i + 2 * c);
     },
     [](int p, int r, int a, int f, int i, int w, int c) -> Nanoseconds {
       return (p - 1 - r) * (f + c) + p * i + (p - 1) * c + w - a * (i + w);
     }},
    {"loop", 2,
     [](int p, int r, int a, int f, int i, int c) -> Nanoseconds {
       return (2 * p - r - a) * f + (2 * p - 1 - r) * c + (p - 1 - r) * (i + c);
     },
     [](int p, int r, int a, int f, int i, int w, int c) -> Nanoseconds {
       return (p - 1 - r) * (f + c) + 2 * p * i + (2 * p - 1) * c + w - a * (i + w);
     }},
    {"v", 2,
     [](int p, int r, int a, int f, int i, int c) -> Nanoseconds {
       return (2 * p - a) * f + 2 * (p - 1) * c + r * (i - f);
     },
     [](int p, int r, int a, int f, int i, int w, int c) -> Nanoseconds {
       return r * (f + c) + 2 * p * i + 2 * (p - 1) * c + w - a * (i + w);
     }},
};

TEST(CappedBound, IsTheClosedFormulaWhereStagesAreEqual) {
  for (const ClosedForm& form : kClosedForms) {
    for (const auto& [f, i, w, c] :
         {std::array{1, 1, 1, 0}, {10, 12, 8, 1}, {7, 3, 20, 5}, {3, 9, 1, 2}}) {
      for (int p = 2; p <= 6; ++p) {
        for (int cap = form.chunks; cap <= 4 * p; ++cap) {
          const int m = 4 * p + 1;
          Nanoseconds expected = 0;
          for (int r = 0; r < p; ++r) {
            expected =
                std::max(expected, r * (f + c) + m * form.chunks * (f + i + w) +
                                       std::max<Nanoseconds>(0, form.head(p, r, cap, f, i, c)) +
                                       std::max<Nanoseconds>(0, form.tail(p, r, cap, f, i, w, c)));
          }
          const ActionCosts costs = uniform_costs(p * form.chunks, f, i, w, c);
          EXPECT_EQ(
              capped_bound(uniform_problem(form.placement, p, form.chunks, m, costs, cap)).makespan,
              expected)
              << form.placement << " P=" << p << " A=" << cap;
        }
      }
    }
  }
}

// Idle of ZB-H1 is (P-1)(f+i-w+4c) at a cap of P and M >= 2P, where messages are free and w <= f,
// or W covers them: 2c <= w <= i, w <= f + 2c. There no schedule of its memory is better.
TEST(CappedBound, ZbH1IsOptimal) {
  int cases = 0;
  for (const int p : {2, 4, 8}) {
    for (int f = 1; f <= 9; f += 2) {
      for (int i = 1; i <= 9; i += 2) {
        for (int w = 1; w <= 9; ++w) {
          for (int c = 0; c <= 3; ++c) {
            if (w > f + 2 * c || (c > 0 && (w < 2 * c || w > i))) continue;
            ++cases;
            const int m = 2 * p + cases % 3;
            const ActionCosts costs = uniform_costs(p, f, i, w, c);
            const Nanoseconds bound =
                best_bound(uniform_problem("loop", p, 1, m, costs, p)).makespan;
            EXPECT_EQ(bound, m * (f + i + w) + (p - 1) * std::max(f + i - w + 4 * c, f + c));
            EXPECT_EQ(makespan_of("zb-h1", {p, m}, costs), bound);
          }
        }
      }
    }
  }
  EXPECT_GT(cases, 700);
}

// In units of half a rank's share: idle 2 * (1.5P - 3.5) at a cap of 2 * (P/2 + 1) stages.
TEST(CappedBound, VHalfIsOptimal) {
  for (const int p : {4, 8, 16, 32}) {
    const int m = 2 * p;
    const ActionCosts costs = uniform_costs(2 * p, 1, 1, 1, 0);
    const Bound bound = best_bound(uniform_problem("v", p, 2, m, costs, p + 2));
    EXPECT_EQ(bound.makespan, 6 * m + 3 * p - 7);
    EXPECT_EQ(bound.name, "capped");
    EXPECT_EQ(makespan_of("v-half", {p, m, 2}, costs), bound.makespan);
  }
}

// Every rank's idle of a V is at least (P-1)/2 at full memory: H1 = (P-1) halves.
TEST(WorkBound, DualPipeVInSequenceAndZbvAreOptimalAtUnitCosts) {
  for (const int p : {2, 4, 8}) {
    const ActionCosts costs = uniform_costs(2 * p, 1, 1, 1, 0);
    for (const char* name : {"zbv", "dualpipe-v"}) {
      EXPECT_EQ(makespan_of(name, {p, 4 * p, 2}, costs),
                best_bound(uniform_problem("v", p, 2, 4 * p, costs)).makespan)
          << name;
    }
  }
}

// 6-slot periods: full throughput on a V needs (P+1)/3 of the memory, less costs time for ever.
TEST(ResidenceBound, GrowsWithEveryMicrobatchBelowAThird) {
  const ActionCosts costs = uniform_costs(16, 1, 1, 1, 0);
  const auto per_microbatch = [&](int cap) {
    return (residence_bound(uniform_problem("v", 8, 2, 200, costs, cap)).makespan -
            residence_bound(uniform_problem("v", 8, 2, 100, costs, cap)).makespan) /
           100;
  };
  EXPECT_EQ(per_microbatch(6), 6);  // (4P + 4) / A = 36 / 6: as much as the work
  EXPECT_EQ(per_microbatch(4), 36 / 4);
}

TEST(BoundProblem, SaysWhatIsWrong) {
  BoundInput input{*place("v", 2, 4), 4, uniform_costs(3, 1, 1, 1, 0)};
  EXPECT_EQ(BoundProblem::make(input).error().message,
            "costs are of 3 stages, the placement has 4");
  input.costs = uniform_costs(4, 1, 1, -2, 0);
  EXPECT_EQ(BoundProblem::make(input).error().message, "a cost is -2 ns, needs 0 or more");
  input.costs = uniform_costs(4, 1, 1, 1, 0);
  input.costs.recompute = {1};
  EXPECT_EQ(BoundProblem::make(input).error().message,
            "costs are of 1 stages, the placement has 4");
  input.costs = uniform_costs(4, 1, 1, 1, -1);
  EXPECT_EQ(BoundProblem::make(input).error().message, "hop is -1 ns, needs 0 or more");
  input.costs = uniform_costs(4, Nanoseconds{1} << 58, 1, 1, 0);
  EXPECT_THAT(BoundProblem::make(input).error().message, ::testing::HasSubstr("at most 2^60"));
  input.costs = uniform_costs(4, 1, 1, 1, 0);
  input.activations = {4};
  EXPECT_EQ(BoundProblem::make(input).error().message, "1 caps for 2 ranks");
  input.activations = {4, 1};
  EXPECT_EQ(BoundProblem::make(input).error().message,
            "rank 1 may hold 1 activations, one micro-batch alone has more");
  input.microbatches = 0;
  EXPECT_EQ(BoundProblem::make(input).error().message, "microbatches is 0, needs at least 1");
}

std::vector<Nanoseconds> random_list(int stages) {
  return *rc::gen::container<std::vector<Nanoseconds>>(static_cast<std::size_t>(stages),
                                                       rc::gen::inRange<Nanoseconds>(0, 30));
}

/// Two lanes of layers, with something recomputed before each I.
Braid random_braid() {
  const auto cost = [] { return *rc::gen::inRange<Nanoseconds>(0, 30); };
  Braid braid;
  for (int layer = 0; layer < 2; ++layer) {
    const int first = 5 * layer;
    const std::vector<int> before = layer == 0 ? std::vector<int>{} : std::vector<int>{first - 2};
    braid.segments.push_back({"f", Lane::kCompute, SegmentOf::kForward, cost(), {}});
    braid.segments.push_back({"x", Lane::kCommunication, SegmentOf::kForward, cost(), {first}});
    braid.segments.push_back({"r", Lane::kCompute, SegmentOf::kRecompute, cost(), {}});
    braid.segments.push_back({"i", Lane::kCompute, SegmentOf::kBackwardInput, cost(), before});
    braid.segments.back().needs.push_back(first + 2);
    braid.segments.push_back(
        {"w", Lane::kCompute, SegmentOf::kBackwardWeight, cost(), {first + 3}});
  }
  return braid;
}

/// Whole backwards may cost less than I and W, less than I even, or more.
CostModel random_costs(int stages) {
  CostModel costs;
  costs.actions = {random_list(stages), random_list(stages), random_list(stages), {}, 0};
  if (*rc::gen::arbitrary<bool>()) costs.actions.recompute = random_list(stages);
  costs.actions.hop = *rc::gen::inRange<Nanoseconds>(0, 12);
  for (std::size_t s = 0; s < costs.actions.forward.size(); ++s) {
    const Nanoseconds both = costs.actions.backward_input[s] + costs.actions.backward_weight[s];
    costs.actions.backward.push_back(
        std::max<Nanoseconds>(0, both + *rc::gen::inRange<Nanoseconds>(-25, 10)));
  }
  switch (*rc::gen::inRange(0, 5)) {
    case 0:
      break;
    case 4:
      costs.pairs.pricing = PairPricing::kBraid;
      costs.pairs.braid = *PreparedBraid::make(random_braid());
      break;
    case 1:
      costs.pairs.pricing = PairPricing::kBlock;
      break;
    case 2:
      costs.pairs.pricing = PairPricing::kBlock;
      costs.pairs.share = *rc::gen::inRange(0, 12) / 10.0;
      break;
    default:
      costs.pairs.pricing = PairPricing::kBlock;
      costs.pairs.block = *rc::gen::inRange<Nanoseconds>(0, 90);
  }
  return costs;
}

bool splits(const Schedule& schedule) {
  for (const std::vector<Action>& list : schedule.ranks) {
    for (const Action& action : list) {
      if (action.type == ActionType::kBackwardInput) return true;
    }
  }
  return false;
}

void expect_bounds_hold(const Schedule& schedule, const CostModel& costs) {
  const Prediction prediction = run(schedule, costs);
  BoundInput input = bound_input(schedule, costs);
  RC_ASSERT(best_bound(input)->makespan <= prediction.makespan_ns);
  for (const RankPrediction& rank : prediction.ranks)
    input.activations.push_back(static_cast<int>(rank.peak_activations.amount));
  if (schedule.forward_only) input.activations.clear();
  RC_ASSERT(best_bound(input)->makespan <= prediction.makespan_ns);
  const RelaxationBound relaxed = one_rank_relaxation(*BoundProblem::make(input), {.nodes = 200});
  RC_ASSERT(relaxed.bound.makespan <= prediction.makespan_ns);
  if (splits(schedule)) return;
  input.whole_backward = true;
  RC_ASSERT(best_bound(input)->makespan <= prediction.makespan_ns);
}

// No makespan is below a bound, for random stages, hops and prices of pairs, with the schedule's
// own peaks as caps too.
RC_GTEST_PROP(EveryGenerator, IsNeverBelowABound, ()) {
  const GeneratorInfo& info = kGenerators.at(*rc::gen::inRange<std::size_t>(0, kGenerators.size()));
  const int ranks = *rc::gen::inRange(1, 7);
  const int microbatches = *rc::gen::inRange(1, 3 * ranks + 4);
  const int chunks = info.default_chunks * *rc::gen::inRange(1, 3);
  const Expected<Schedule> schedule = generate(info.name, {ranks, microbatches, chunks, true});
  if (!schedule) return;
  expect_bounds_hold(*schedule, random_costs(schedule->placement.stages()));
}

TEST(EveryGenerator, IsNeverBelowABoundAtUnitCosts) {
  int shapes = 0;
  for (const GeneratorInfo& info : kGenerators) {
    for (int ranks = 1; ranks <= 8; ++ranks) {
      const Expected<Schedule> schedule = generate(
          info.name, {.ranks = ranks, .microbatches = 4 * ranks, .chunks = 0, .any_m = true});
      if (!schedule) continue;
      ++shapes;
      const CostModel costs = unit_cost_model(schedule->placement.stages());
      BoundInput input = bound_input(*schedule, costs);
      const Prediction prediction = run(*schedule, costs);
      EXPECT_LE(best_bound(input)->makespan, prediction.makespan_ns) << info.name;
      if (schedule->forward_only) continue;
      for (const RankPrediction& rank : prediction.ranks)
        input.activations.push_back(static_cast<int>(rank.peak_activations.amount));
      EXPECT_LE(best_bound(input)->makespan, prediction.makespan_ns) << info.name;
    }
  }
  EXPECT_GT(shapes, 140);
}

}  // namespace
}  // namespace plait
