#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "plait/schedule/generators.h"
#include "plait/schedule/greedy/makespan.h"
#include "plait/verify/verify.h"

namespace plait {
namespace {

OrderPrice price(const Schedule& schedule, const ActionCosts& costs) {
  const Expected<OrderPrice> price = price_order(schedule, costs);
  if (!price) ADD_FAILURE() << price.error().text();
  return price ? *price : OrderPrice{0, {0}};
}

int highest(const OrderPrice& price) {
  return *std::max_element(price.peak_activations.begin(), price.peak_activations.end());
}

ScheduleShape shape_of(int ranks, int microbatches, int chunks, const ActionCosts& costs,
                       int activations) {
  ScheduleShape shape{ranks, microbatches, chunks};
  shape.costs = costs;
  shape.activations = activations;
  return shape;
}

ActionCosts random_costs(int stages, std::mt19937_64& random) {
  ActionCosts costs = unit_costs(stages);
  for (std::size_t stage = 0; stage < costs.forward.size(); ++stage) {
    costs.forward[stage] = static_cast<Nanoseconds>(50 + random() % 100);
    costs.backward_input[stage] = static_cast<Nanoseconds>(50 + random() % 150);
    costs.backward_weight[stage] = static_cast<Nanoseconds>(20 + random() % 100);
    costs.backward[stage] = costs.backward_input[stage] + costs.backward_weight[stage];
  }
  costs.hop = static_cast<Nanoseconds>(random() % 60);
  return costs;
}

// What the simulator has to give: 3 + 1 + 3 of fill and drain and two rows of work with a hop of 2.
TEST(PriceOrder, ByHand) {
  ActionCosts costs = unit_costs(2);
  costs.hop = 2;
  // rank 0: F0 0-1, F1 1-2, B0 after 1F0 3-4 and 1B0 4-6 at 8-10, B1 after 1B1 7-9 at 11-13.
  const OrderPrice two = price(*generate("1f1b", {2, 2}), costs);
  EXPECT_EQ(two.makespan, 13);
  EXPECT_EQ(two.peak_activations, (std::vector<int>{2, 1}));
}

TEST(PriceOrder, SaysWhereAnOrderStandsStill) {
  Schedule schedule = *generate("1f1b", {2, 2});
  std::swap(schedule.ranks[1][0], schedule.ranks[1][1]);  // B0 before F0
  EXPECT_EQ(price_order(schedule, unit_costs(2)).error().message,
            "1f1b: rank 0 waits for ever at position 2, stage 0, micro-batch 0");
  EXPECT_EQ(price_order(schedule, unit_costs(3)).error().message,
            "1f1b: costs are for 3 stages, needs 2");
}

TEST(ZbAuto, EqualsH1AndH2AtTheirMemory) {
  for (const int p : {2, 4, 8, 16}) {
    for (const int m : {2 * p, 4 * p}) {
      const ActionCosts costs = unit_costs(p);
      const OrderPrice h1 = price(*generate("zb-auto", shape_of(p, m, 1, costs, p)), costs);
      EXPECT_EQ(h1.makespan, price(*generate("zb-h1", {p, m}), costs).makespan);
      EXPECT_LE(highest(h1), p);
      const OrderPrice h2 = price(*generate("zb-auto", shape_of(p, m, 1, costs, 2 * p - 1)), costs);
      EXPECT_EQ(h2.makespan, price(*generate("zb-h2", {p, m}), costs).makespan);
      EXPECT_LE(highest(h2), 2 * p - 1);
    }
  }
}

// Within the cap, proven, and never slower than a fixed order that keeps it: any costs, hops, caps
// down to one activation a stage, M below P too.
TEST(AutoSchedules, NeverWorseThanAFixedOrderWithinTheCap) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 60; ++round) {
    const int ranks = 1 + static_cast<int>(random() % 5);
    const int microbatches = 1 + static_cast<int>(random() % 12);
    const int chunks = 1 + round % 2;
    const ActionCosts costs = random_costs(ranks * chunks, random);
    const int most = 2 * ranks * chunks;
    const int cap = chunks + static_cast<int>(random() % static_cast<std::uint64_t>(most));
    const std::string name = chunks == 1 ? "zb-auto" : "zbv-auto";
    SCOPED_TRACE(name + " P " + std::to_string(ranks) + " M " + std::to_string(microbatches) +
                 " cap " + std::to_string(cap));
    const Expected<Schedule> made =
        generate(name, shape_of(ranks, microbatches, chunks, costs, cap));
    ASSERT_TRUE(made) << made.error().text();
    ASSERT_TRUE(verify(*made)) << verify(*made).error().front().text();
    const OrderPrice ours = price(*made, costs);
    EXPECT_LE(highest(ours), cap);
    for (const GeneratorInfo& info : kGenerators) {
      if (info.name == "zb-auto" || info.name == "zbv-auto") continue;
      const Expected<Schedule> fixed = generate(info.name, {ranks, microbatches, chunks, true});
      if (!fixed || fixed->forward_only || fixed->placement != made->placement) continue;
      const OrderPrice theirs = price(*fixed, costs);
      if (highest(theirs) <= cap) {
        EXPECT_LE(ours.makespan, theirs.makespan) << info.name;
      }
    }
  }
}

// Costs of the median stage would hide a slow one; the order follows what each stage costs.
TEST(ZbAuto, ReactsToOneSlowStage) {
  ActionCosts costs = unit_costs(4, 10);
  costs.forward[1] = 20;
  costs.backward_input[1] = 20;
  const Schedule even = *generate("zb-auto", shape_of(4, 8, 1, unit_costs(4, 10), 4));
  const Schedule uneven = *generate("zb-auto", shape_of(4, 8, 1, costs, 4));
  EXPECT_NE(even.ranks, uneven.ranks);
  EXPECT_LT(price(uneven, costs).makespan, price(even, costs).makespan);
}

// V-Min's order never depends on costs: a hop costs it, and the automatic one less.
TEST(ZbvAuto, IsFasterThanVMinOnceMessagesCost) {
  ActionCosts costs = unit_costs(8, 10);
  costs.hop = 4;
  const Schedule fixed = *generate("v-min", {4, 8});
  const OrderPrice v_min = price(fixed, costs);
  const OrderPrice ours =
      price(*generate("zbv-auto", shape_of(4, 8, 2, costs, highest(v_min))), costs);
  EXPECT_LT(ours.makespan, v_min.makespan);
}

TEST(AutoSchedules, ACapBelowOneActivationAStageIsRefused) {
  EXPECT_EQ(generate("zbv-auto", shape_of(4, 8, 2, unit_costs(8), 1)).error().message,
            "zbv-auto: a cap of 1 stage activations per rank is too small, needs at least 2, one "
            "for each stage of a rank");
  EXPECT_TRUE(generate("zbv-auto", shape_of(4, 8, 2, unit_costs(8), 2)));
  EXPECT_TRUE(generate("zb-auto", shape_of(4, 8, 1, unit_costs(4), 1)));
}

TEST(AutoSchedules, CostsThatDoNotFitAreRefused) {
  EXPECT_EQ(generate("zb-auto", shape_of(4, 8, 1, unit_costs(3), 4)).error().message,
            "zb-auto: costs are for 3 stages, needs 4");
  ActionCosts negative = unit_costs(4);
  negative.hop = -1;
  EXPECT_EQ(generate("zb-auto", shape_of(4, 8, 1, negative, 4)).error().message,
            "zb-auto: hop is -1 ns, needs at least 0");
}

}  // namespace
}  // namespace plait
