// What --any-m promises: outside its own limits a schedule is idle no longer than within them.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "plait/schedule/generators.h"
#include "plait/schedule/greedy/makespan.h"
#include "plait/sim/bound/bounds.h"

namespace plait {
namespace {

constexpr int kNoShape = -1;

bool in_domain(const GeneratorInfo& info, int ranks, int microbatches) {
  // Without --any-m zbv is defined below that too, as torch's, which is idle twice as long.
  if (info.name == "zbv" && microbatches < 2 * ranks - 1) return false;
  return generate(info.name, {ranks, microbatches}).has_value();
}

Nanoseconds work_of(const Schedule& schedule) {
  Nanoseconds work = 0;
  for (const Action& action : schedule.ranks.front()) {
    if (is_compute(action.type)) work += action.type == ActionType::kBackward ? 2 : 1;
  }
  return work;
}

Nanoseconds idle_of(const Schedule& schedule) {
  const Expected<OrderPrice> price = price_order(schedule, unit_costs(schedule.placement.stages()));
  if (!price) ADD_FAILURE() << price.error().text();
  return price ? price->makespan - work_of(schedule) : 0;
}

/// How long the last rank is idle at least, whatever the order.
Nanoseconds least_idle(const Schedule& schedule) {
  CostModel costs;
  costs.actions = unit_costs(schedule.placement.stages());
  BoundInput input = bound_input(schedule, costs);
  input.whole_backward =
      std::none_of(schedule.ranks.front().begin(), schedule.ranks.front().end(),
                   [](const Action& one) { return one.type == ActionType::kBackwardInput; });
  return best_bound(input)->makespan - work_of(schedule);
}

/// The nearest M of the domain from `microbatches` on, in steps.
int neighbour(const GeneratorInfo& info, int ranks, int microbatches, int step) {
  for (int m = microbatches + step; m > 0 && m <= 6 * ranks; m += step) {
    if (in_domain(info, ranks, m)) return m;
  }
  return kNoShape;
}

TEST(AnyM, IsIdleNoLongerThanTheNeighboursOrAnyOrder) {
  int shapes = 0;
  for (const GeneratorInfo& info : kGenerators) {
    for (const int ranks : {2, 4, 8}) {
      for (int m = 1; m <= 4 * ranks; ++m) {
        if (in_domain(info, ranks, m)) continue;
        SCOPED_TRACE(std::string(info.name) + " P " + std::to_string(ranks) + " M " +
                     std::to_string(m));
        const Expected<Schedule> schedule = generate(info.name, {ranks, m, 0, true});
        ASSERT_TRUE(schedule) << schedule.error().text();
        Nanoseconds most = least_idle(*schedule);
        for (const int step : {-1, 1}) {
          const int legal = neighbour(info, ranks, m, step);
          if (legal != kNoShape)
            most = std::max(most, idle_of(*generate(info.name, {ranks, legal})));
        }
        EXPECT_LE(idle_of(*schedule), most);
        ++shapes;
      }
    }
  }
  EXPECT_GT(shapes, 200);
}

// Without pairs there is nothing to gain from an odd M but the time of one micro-batch; with them
// the order keeps all but two of each rank's.
TEST(AnyM, DualPipeOfAnOddMKeepsItsPairsItsMemoryAndItsIdleTime) {
  for (const int ranks : {2, 4, 8, 16, 32}) {
    for (const int m : {2 * ranks + 1, 3 * ranks + 1, 4 * ranks - 1}) {
      const Schedule odd = *generate("dualpipe", {ranks, m, 0, true});
      const Schedule even = *generate("dualpipe", {ranks, m + 1});
      EXPECT_EQ(idle_of(odd), ranks / 2 - 1) << ranks << " " << m;
      const std::vector<int> peaks = peak_activations(odd);
      EXPECT_EQ(*std::max_element(peaks.begin(), peaks.end()), ranks + 1);
      for (std::size_t rank = 0; rank < odd.ranks.size(); ++rank) {
        const auto pairs = [&](const Schedule& schedule) {
          return std::count_if(
              schedule.ranks[rank].begin(), schedule.ranks[rank].end(),
              [](const Action& action) { return action.type == ActionType::kOverlapFB; });
        };
        EXPECT_GE(pairs(odd), pairs(even) - 2);
      }
    }
  }
}

}  // namespace
}  // namespace plait
