#include "plait/sim/bounds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plait/placement/placements.h"

namespace plait {
namespace {

ActionCosts uniform_costs(int stages, Nanoseconds f, Nanoseconds i, Nanoseconds w,
                          Nanoseconds hop) {
  const auto count = static_cast<std::size_t>(stages);
  return {std::vector<Nanoseconds>(count, f), std::vector<Nanoseconds>(count, i),
          std::vector<Nanoseconds>(count, w), std::vector<Nanoseconds>(count, i + w), hop};
}

BoundInput uniform_input(const char* placement, int ranks, int chunks, int microbatches,
                         const ActionCosts& costs, int activations = 0) {
  BoundInput input{*place(placement, ranks, ranks * chunks), microbatches, costs};
  if (activations > 0) input.activations.assign(static_cast<std::size_t>(ranks), activations);
  return input;
}

// The last rank starts after P-1 forwards and hops: (P-1)(f+c) + M(f+i+w).
TEST(WorkBound, IsTheLastRanksHeadAndWork) {
  const BoundProblem problem =
      *BoundProblem::make(uniform_input("loop", 4, 1, 8, uniform_costs(4, 10, 12, 8, 1)));
  EXPECT_EQ(work_bound(problem), (Bound{3 * 11 + 8 * 30, "work", 3}));
}

// schedule-rules table 3.4, V = 1, against the general code, over ranks.
TEST(CappedBound, IsTheClosedFormulaWithOneChunk) {
  for (const auto& [f, i, w, c] : {std::array{1, 1, 1, 0}, {10, 12, 8, 1}, {7, 3, 20, 5}}) {
    for (int ranks = 2; ranks <= 6; ++ranks) {
      for (int cap = 1; cap <= 2 * ranks; ++cap) {
        const int m = 3 * ranks;
        Nanoseconds expected = 0;
        for (int r = 0; r < ranks; ++r) {
          const int head = (ranks - r - cap) * f + (ranks - 1 - r) * (i + 2 * c);
          const int tail =
              (ranks - 1 - r) * (f + c) + ranks * i + (ranks - 1) * c + w - cap * (i + w);
          expected = std::max<Nanoseconds>(
              expected, r * (f + c) + m * (f + i + w) + std::max(0, head) + std::max(0, tail));
        }
        const BoundProblem problem = *BoundProblem::make(
            uniform_input("loop", ranks, 1, m, uniform_costs(ranks, f, i, w, c), cap));
        EXPECT_EQ(capped_bound(problem).makespan, expected) << ranks << " ranks, cap " << cap;
      }
    }
  }
}

}  // namespace
}  // namespace plait
