// price_order() is what the cost-aware schedules judge by, simulate() what the user is told: two
// programs that have to agree.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>

#include "plait/schedule/generators.h"
#include "plait/schedule/greedy/makespan.h"
#include "plait/sim/simulate.h"

namespace plait {
namespace {

/// F, I and W of a stage, how much more each next stage takes, what a whole B saves, a hop, what is
/// recomputed.
struct Costs {
  Nanoseconds forward, input, weight, more, saved, hop, again;
};

constexpr std::array kCosts = {
    Costs{1, 1, 1, 0, 0, 0, 0},     Costs{10, 12, 8, 0, 0, 1, 0},   Costs{10, 12, 8, 3, 2, 0, 0},
    Costs{7, 13, 2, 1, 1, 25, 0},   Costs{30, 10, 20, 5, 0, 7, 0},  Costs{5, 40, 0, 0, 0, 3, 0},
    Costs{0, 10, 10, 2, 10, 40, 0}, Costs{11, 3, 29, 17, 3, 11, 0}, Costs{1, 1, 1, 0, 0, 0, 1},
    Costs{10, 12, 8, 3, 2, 25, 9},  Costs{5, 40, 0, 0, 0, 3, 30},
};

/// Stages in a shuffled order of their costs, so that no rank's are alike.
ActionCosts costs_of(const Costs& given, int stages) {
  ActionCosts costs = unit_costs(stages);
  for (std::size_t stage = 0; stage < costs.forward.size(); ++stage) {
    const Nanoseconds more = given.more * static_cast<Nanoseconds>(stage * 7 % 5);
    costs.forward[stage] = given.forward + more;
    costs.backward_input[stage] = given.input + more;
    costs.backward_weight[stage] = given.weight + more;
    costs.backward[stage] = given.input + given.weight + 2 * more - given.saved;
  }
  costs.hop = given.hop;
  if (given.again == 0) return costs;
  for (std::size_t stage = 0; stage < costs.forward.size(); ++stage)
    costs.recompute.push_back(given.again + given.more * static_cast<Nanoseconds>(stage * 5 % 7));
  return costs;
}

void expect_equal_prices(const Schedule& schedule, const ActionCosts& costs) {
  const Expected<OrderPrice> order = price_order(schedule, costs);
  ASSERT_TRUE(order) << order.error().text();
  const auto proven = verify(schedule);
  ASSERT_TRUE(proven) << proven.error().front().text();
  CostModel model;
  model.actions = costs;
  const Expected<Prediction> prediction = simulate(*proven, model);
  ASSERT_TRUE(prediction) << prediction.error().text();
  EXPECT_EQ(order->makespan, prediction->makespan_ns);
  ASSERT_EQ(order->peak_activations.size(), prediction->ranks.size());
  for (std::size_t rank = 0; rank < prediction->ranks.size(); ++rank)
    EXPECT_EQ(order->peak_activations[rank], prediction->ranks[rank].peak_activations.amount);
}

class OrderPriceOf : public ::testing::TestWithParam<GeneratorInfo> {};

TEST_P(OrderPriceOf, IsTheSimulators) {
  int priced = 0;
  for (const int ranks : {1, 2, 3, 4, 6, 8}) {
    for (const int microbatches : {1, ranks, 2 * ranks + 1, 3 * ranks}) {
      ScheduleShape shape;
      shape.ranks = ranks;
      shape.microbatches = microbatches;
      shape.any_m = true;
      const Expected<Schedule> even = generate(GetParam().name, shape);
      if (!even) continue;  // two copies on an odd number of ranks
      for (std::size_t at = 0; at < kCosts.size(); ++at) {
        SCOPED_TRACE("P " + std::to_string(ranks) + " M " + std::to_string(microbatches) +
                     " costs " + std::to_string(at));
        const ActionCosts costs = costs_of(kCosts.at(at), even->placement.stages());
        shape.costs = costs;
        expect_equal_prices(*generate(GetParam().name, shape), costs);
        ++priced;
      }
    }
  }
  EXPECT_GE(priced, 4 * 4 * static_cast<int>(kCosts.size()));
}

INSTANTIATE_TEST_SUITE_P(Generators, OrderPriceOf, ::testing::ValuesIn(kGenerators),
                         [](const auto& generator) {
                           std::string name(generator.param.name);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return "_" + name;
                         });

}  // namespace
}  // namespace plait
