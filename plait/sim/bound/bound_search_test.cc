#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "plait/ir/placements.h"
#include "plait/sim/bound/bounds.h"

namespace plait {
namespace {

ActionCosts uniform_costs(int stages, Nanoseconds f, Nanoseconds i, Nanoseconds w,
                          Nanoseconds hop) {
  const auto count = static_cast<std::size_t>(stages);
  return {std::vector<Nanoseconds>(count, f), std::vector<Nanoseconds>(count, i),
          std::vector<Nanoseconds>(count, w), std::vector<Nanoseconds>(count, i + w), hop};
}

struct TableRow {
  const char* placement;
  int chunks, microbatches, cap;
  Nanoseconds f, i, w, c;  // of a stage; c in the same unit
  Nanoseconds closed, one_rank;
};

// schedule-rules table 3.5 at P = 4. Its costs are of a rank's whole share: with two stages a rank
// times are in halves here, so hops and makespans double; its closed column is the best of three.
TEST(OneRankRelaxation, IsTheTableOfSolvedInstances) {
  for (const TableRow& row : {
           TableRow{"loop", 1, 8, 3, 1, 1, 1, 0, 30, 30},
           {"loop", 1, 8, 2, 1, 1, 1, 0, 36, 39},
           {"loop", 1, 8, 3, 10, 12, 8, 1, 324, 336},
           {"loop", 2, 8, 4, 1, 1, 1, 0, 59, 63},
           {"loop", 2, 8, 4, 10, 12, 8, 2, 650, 746},
           {"v", 2, 4, 3, 1, 1, 1, 0, 38, 44},
           {"v", 2, 4, 3, 10, 12, 8, 2, 436, 532},
           {"v", 2, 8, 4, 10, 12, 8, 2, 646, 682},
           {"v", 2, 8, 4, 10, 12, 8, 1, 628, 652},  // (1, 1.2, .8, .05)
       }) {
    BoundInput input{*place(row.placement, 4, 4 * row.chunks), row.microbatches,
                     uniform_costs(4 * row.chunks, row.f, row.i, row.w, row.c)};
    input.activations.assign(4, row.cap);
    const BoundProblem problem = *BoundProblem::make(input);
    EXPECT_EQ(best_bound(problem).makespan, row.closed) << row.placement << row.chunks;
    const RelaxationBound relaxed = one_rank_relaxation(problem);
    EXPECT_TRUE(relaxed.exact);
    EXPECT_EQ(relaxed.bound.makespan, row.one_rank) << row.placement << row.chunks;
  }
}

// Memory 2.5 to 4 on a V: the closed bound is the relaxation's optimum.
TEST(OneRankRelaxation, IsTheClosedBoundWhereMemorySuffices) {
  for (int cap = 5; cap <= 8; ++cap) {
    for (const auto& [f, i, w, c] : {std::array{1, 1, 1, 0}, {10, 12, 8, 2}}) {
      BoundInput input{*place("v", 4, 8), 8, uniform_costs(8, f, i, w, c)};
      input.activations.assign(4, cap);
      const BoundProblem problem = *BoundProblem::make(input);
      const RelaxationBound relaxed = one_rank_relaxation(problem);
      EXPECT_TRUE(relaxed.exact);
      EXPECT_EQ(relaxed.bound.makespan, best_bound(problem).makespan) << "cap " << cap;
    }
  }
}

// Out of nodes: what is proven by then, not less than the closed bounds nor more than the optimum.
TEST(OneRankRelaxation, StaysProvenWhenItRunsOut) {
  BoundInput input{*place("v", 4, 8), 8, uniform_costs(8, 10, 12, 8, 2)};
  input.activations.assign(4, 4);
  const BoundProblem problem = *BoundProblem::make(input);
  Nanoseconds before = best_bound(problem).makespan;
  for (const std::int64_t nodes : {1, 10, 100, 1000, 10000}) {
    const RelaxationBound relaxed = one_rank_relaxation(problem, {.nodes = nodes});
    EXPECT_GE(relaxed.bound.makespan, before);
    EXPECT_LE(relaxed.bound.makespan, 682);
    EXPECT_EQ(relaxed.exact, nodes >= 1000) << nodes;
    before = relaxed.bound.makespan;
  }
  EXPECT_FALSE(one_rank_relaxation(problem, {.actions = 47}).exact);  // 2 * 3 * 8 = 48 a rank
}

// ---- Every order of every rank, against every bound.

constexpr Nanoseconds kNever = std::numeric_limits<Nanoseconds>::max();

/// One thing a rank does: an action, or a pair as a block.
struct Step {
  int forward = -1;   // copy * S + stage, -1: none
  int backward = -1;  // of I or B
  int weight = -1;    // W alone
  bool whole = false;
};

/// All orders of one rank: micro-batches of a stage are alike, so each row counts up.
class OrderLister {
 public:
  OrderLister(const BoundInput& input, int rank) : input_(input) {
    const int stages = input.placement.stages();
    for (int copy = 0; copy < input.placement.copies; ++copy) {
      for (int stage = 0; stage < stages; ++stage) {
        if (input.placement.rank_of(stage, copy) == rank) held_.push_back(copy * stages + stage);
      }
    }
    if (!input.activations.empty()) cap_ = input.activations[static_cast<std::size_t>(rank)];
    left_ = static_cast<int>(held_.size()) * microbatches();
    forwards_.resize(held_.size());
    backwards_.resize(held_.size());
    waiting_.resize(held_.size());
  }
  std::vector<std::vector<Step>> all() {
    extend();
    return std::move(orders_);
  }

 private:
  int microbatches() const { return input_.microbatches / input_.placement.copies; }
  bool joined(std::size_t i) const {  // with the stage before it in the same copy
    const int stages = input_.placement.stages();
    return i > 0 && i < held_.size() && held_[i] / stages == held_[i - 1] / stages;
  }
  bool can_forward(std::size_t i) const {
    return forwards_[i] < microbatches() && (!joined(i) || forwards_[i - 1] > forwards_[i]) &&
           (cap_ == 0 || live_ < cap_);
  }
  bool can_backward(std::size_t i) const {
    return backwards_[i] < (joined(i + 1) ? backwards_[i + 1] : forwards_[i]);
  }

  void extend() {
    if (left_ == 0) orders_.push_back(order_);
    for (std::size_t i = 0; i < held_.size(); ++i) {
      if (can_forward(i)) {
        for (std::size_t j = 0; input_.pair && j < held_.size(); ++j) {
          if (can_backward(j)) backward(j, static_cast<int>(i));
        }
        forward(i, 1);
        order_.push_back({held_[i], -1, -1, false});
        extend();
        order_.pop_back();
        forward(i, -1);
      }
      if (can_backward(i)) backward(i, -1);
      if (waiting_[i] > 0) {
        release(i, 1);
        order_.push_back({-1, -1, held_[i], false});
        extend();
        order_.pop_back();
        release(i, -1);
      }
    }
  }
  void forward(std::size_t i, int sign) {
    forwards_[i] += sign;
    live_ += sign;
  }
  void release(std::size_t i, int sign) {
    waiting_[i] -= sign;
    live_ -= sign;
    left_ -= sign;
  }
  /// I or B, alone or in a pair.
  void backward(std::size_t j, int pair) {
    for (const bool whole : {false, true}) {
      if (pair >= 0) forward(static_cast<std::size_t>(pair), 1);
      ++backwards_[j];
      ++waiting_[j];
      if (whole) release(j, 1);
      order_.push_back(
          {pair >= 0 ? held_[static_cast<std::size_t>(pair)] : -1, held_[j], -1, whole});
      extend();
      order_.pop_back();
      if (whole) release(j, -1);
      --waiting_[j];
      --backwards_[j];
      if (pair >= 0) forward(static_cast<std::size_t>(pair), -1);
    }
  }

  const BoundInput& input_;
  std::vector<int> held_;
  int cap_ = 0;
  int live_ = 0;
  int left_ = 0;
  std::vector<int> forwards_, backwards_, waiting_;
  std::vector<Step> order_;
  std::vector<std::vector<Step>> orders_;
};

/// Times one order of every rank.
class Evaluator {
 public:
  explicit Evaluator(const BoundInput& input)
      : input_(input),
        rows_(static_cast<int>(input.placement.rank_of_stage.size())),
        ends_(static_cast<std::size_t>(2 * rows_ * input.microbatches)),
        counts_(static_cast<std::size_t>(2 * rows_)) {}

  /// kNever if it cannot run, or not in less than `limit`.
  Nanoseconds makespan(const std::vector<const std::vector<Step>*>& orders, Nanoseconds limit) {
    std::fill(ends_.begin(), ends_.end(), kNever);
    std::fill(counts_.begin(), counts_.end(), 0);
    std::vector<std::size_t> next(orders.size());
    std::vector<Nanoseconds> time(orders.size());
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t rank = 0; rank < orders.size(); ++rank) {
        while (next[rank] < orders[rank]->size() && run((*orders[rank])[next[rank]], time[rank])) {
          ++next[rank];
          moved = true;
          if (time[rank] >= limit) return kNever;
        }
      }
    }
    for (std::size_t rank = 0; rank < orders.size(); ++rank) {
      if (next[rank] < orders[rank]->size()) return kNever;
    }
    return *std::max_element(time.begin(), time.end());
  }

 private:
  Nanoseconds& end(bool backward, int row, int microbatch) {
    const int index = ((backward ? rows_ : 0) + row) * input_.microbatches + microbatch;
    return ends_[static_cast<std::size_t>(index)];
  }
  int& count(bool backward, int row) {
    const int index = (backward ? rows_ : 0) + row;
    return counts_[static_cast<std::size_t>(index)];
  }
  Nanoseconds arrival(bool backward, int row, int from) {
    const auto rank = [&](int r) {
      return input_.placement.rank_of_stage[static_cast<std::size_t>(r)];
    };
    const Nanoseconds made = end(backward, from, count(backward, row));
    return made == kNever || rank(row) == rank(from) ? made : made + input_.costs.hop;
  }
  Nanoseconds input_of(bool backward, int row) {
    const int stages = input_.placement.stages();
    if (!backward) return row % stages == 0 ? 0 : arrival(false, row, row - 1);
    if (row % stages < stages - 1) return arrival(true, row, row + 1);
    return end(false, row, count(true, row));
  }
  bool run(const Step& step, Nanoseconds& time) {
    const auto cost = [&](const std::vector<Nanoseconds>& list, int row) {
      return list[static_cast<std::size_t>(row % input_.placement.stages())];
    };
    const ActionCosts& costs = input_.costs;
    Nanoseconds begin = time;
    if (step.forward >= 0) begin = std::max(begin, input_of(false, step.forward));
    if (step.backward >= 0) begin = std::max(begin, input_of(true, step.backward));
    if (begin == kNever) return false;
    if (step.forward >= 0 && step.backward >= 0) {
      const int stages = input_.placement.stages();
      time = begin + input_.pair(step.forward % stages, step.backward % stages,
                                 step.whole ? ActionType::kBackward : ActionType::kBackwardInput);
    } else if (step.forward >= 0) {
      time = begin + cost(costs.forward, step.forward);
    } else if (step.backward >= 0) {
      time = begin + cost(step.whole ? costs.backward : costs.backward_input, step.backward);
    } else {
      time = begin + cost(costs.backward_weight, step.weight);
    }
    if (step.forward >= 0) end(false, step.forward, count(false, step.forward)++) = time;
    if (step.backward >= 0) end(true, step.backward, count(true, step.backward)++) = time;
    return true;
  }

  const BoundInput& input_;
  int rows_;
  std::vector<Nanoseconds> ends_;
  std::vector<int> counts_;
};

/// The least makespan of all orders of all ranks.
Nanoseconds optimum(const BoundInput& input) {
  std::vector<std::vector<std::vector<Step>>> orders;
  std::int64_t combinations = 1;
  for (int rank = 0; rank < input.placement.ranks; ++rank) {
    orders.push_back(OrderLister(input, rank).all());
    combinations *= static_cast<std::int64_t>(orders.back().size());
  }
  Evaluator evaluator(input);
  Nanoseconds best = kNever;
  std::vector<const std::vector<Step>*> chosen(orders.size());
  for (std::int64_t number = 0; number < combinations; ++number) {
    std::int64_t rest = number;
    for (std::size_t rank = 0; rank < orders.size(); ++rank) {
      const auto size = static_cast<std::int64_t>(orders[rank].size());
      chosen[rank] = &orders[rank][static_cast<std::size_t>(rest % size)];
      rest /= size;
    }
    best = std::min(best, evaluator.makespan(chosen, best));
  }
  return best;
}

struct Gaps {
  int cases = 0;
  int best_is_optimum = 0;
  int one_rank_is_optimum = 0;
  Nanoseconds optimum_ns = 0, best_ns = 0, one_rank_ns = 0;  // sums
};

void compare(const BoundInput& input, Gaps& gaps) {
  const Nanoseconds least = optimum(input);
  ASSERT_LT(least, kNever);
  const BoundProblem problem = *BoundProblem::make(input);
  const Bound best = best_bound(problem);
  const RelaxationBound relaxed = one_rank_relaxation(problem);
  ASSERT_TRUE(relaxed.exact);
  ASSERT_LE(best.makespan, least) << best.name << " on rank " << best.rank;
  ASSERT_LE(relaxed.bound.makespan, least) << "rank " << relaxed.bound.rank;
  ++gaps.cases;
  gaps.best_is_optimum += best.makespan == least ? 1 : 0;
  gaps.one_rank_is_optimum += relaxed.bound.makespan == least ? 1 : 0;
  gaps.optimum_ns += least;
  gaps.best_ns += best.makespan;
  gaps.one_rank_ns += relaxed.bound.makespan;
}

struct SmallShape {
  const char* placement;
  int ranks, chunks, microbatches;
  bool pairs;
  std::vector<int> caps;  // 0: none
};

BoundInput small_input(const SmallShape& shape, int cap) {
  const int stages = shape.ranks * shape.chunks;
  const auto list = [stages](Nanoseconds from, Nanoseconds to) {
    return *rc::gen::container<std::vector<Nanoseconds>>(static_cast<std::size_t>(stages),
                                                         rc::gen::inRange<Nanoseconds>(from, to));
  };
  BoundInput input{*place(shape.placement, shape.ranks, stages),
                   shape.microbatches,
                   {list(1, 9), list(1, 9), list(1, 9), list(1, 19), 0}};
  input.costs.hop = *rc::gen::inRange<Nanoseconds>(0, 4);
  if (cap > 0) input.activations.assign(static_cast<std::size_t>(shape.ranks), cap);
  if (shape.pairs) {
    input.pair = [costs = input.costs, percent = *rc::gen::inRange(30, 110)](
                     int f, int b, ActionType type) -> Nanoseconds {
      const auto& backward = type == ActionType::kBackward ? costs.backward : costs.backward_input;
      return (costs.forward[static_cast<std::size_t>(f)] + backward[static_cast<std::size_t>(b)]) *
             percent / 100;
    };
  }
  return input;
}

/// Random costs under every small shape; how tight the bounds are is recorded.
TEST(Bounds, AreNeverAboveTheBestOfAllOrders) {
  const SmallShape shapes[] = {
      {"loop", 2, 1, 2, false, {0, 1}},
      {"loop", 2, 1, 3, false, {0, 1, 2}},
      {"loop", 3, 1, 2, false, {0, 1, 2}},
      {"v", 1, 2, 2, false, {0, 2, 3}},
      {"v", 2, 2, 1, false, {0}},
      {"v", 2, 2, 2, false, {2}},
      {"bidirectional", 2, 1, 2, false, {0, 1}},
      {"loop", 2, 1, 2, true, {0, 1}},
      {"v", 1, 2, 2, true, {0, 2, 3}},
      {"bidirectional", 2, 1, 2, true, {0, 1}},
  };
  std::array<Gaps, 2> all{};  // without and with pairs
  for (const SmallShape& shape : shapes) {
    for (const int cap : shape.caps) {
      EXPECT_TRUE(rc::check(std::string(shape.placement),
                            [&] { compare(small_input(shape, cap), all[shape.pairs ? 1 : 0]); }));
    }
  }
  for (const bool pairs : {false, true}) {
    const Gaps& gaps = all[pairs ? 1 : 0];
    const std::string with = pairs ? "pairs_" : "";
    RecordProperty(with + "cases", gaps.cases);
    RecordProperty(with + "best_is_optimum", gaps.best_is_optimum);
    RecordProperty(with + "one_rank_is_optimum", gaps.one_rank_is_optimum);
    RecordProperty(with + "sums", std::to_string(gaps.optimum_ns) + " " +
                                      std::to_string(gaps.best_ns) + " " +
                                      std::to_string(gaps.one_rank_ns));
  }
  EXPECT_GT(all[0].one_rank_is_optimum, all[0].cases / 4);
}

}  // namespace
}  // namespace plait
