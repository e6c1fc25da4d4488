#include "plait/schedule/greedy/order_graph.h"

#include <gtest/gtest.h>

#include <random>

#include "plait/schedule/generators.h"
#include "plait/schedule/greedy/makespan.h"
#include "plait/schedule/greedy/order_walk.h"
#include "plait/verify/verify.h"

namespace plait {
namespace {

OrderCosts random_costs(int ranks, int stages, int cap, std::mt19937_64& random) {
  OrderCosts costs{unit_costs(stages)};
  for (std::size_t stage = 0; stage < static_cast<std::size_t>(stages); ++stage) {
    costs.actions.forward[stage] = static_cast<Nanoseconds>(random() % 20);
    costs.actions.backward_input[stage] = static_cast<Nanoseconds>(random() % 30);
    costs.actions.backward_weight[stage] = static_cast<Nanoseconds>(random() % 20);
    costs.actions.recompute.push_back(static_cast<Nanoseconds>(random() % 9));
  }
  costs.actions.hop = static_cast<Nanoseconds>(random() % 10);
  costs.caps.assign(static_cast<std::size_t>(ranks), cap);
  return costs;
}

// After any moves, kept or not, the graph is the one that its order gives from the beginning.
TEST(OrderGraph, MovesLeaveWhatTheOrderGives) {
  std::mt19937_64 random(3);
  int kept = 0;
  int refused = 0;
  for (int round = 0; round < 40; ++round) {
    const int ranks = 1 + static_cast<int>(random() % 4);
    const int microbatches = 1 + static_cast<int>(random() % 7);
    const Schedule start = *generate("zbv", {ranks, microbatches, 2, true});
    const OrderCosts costs = random_costs(ranks, 2 * ranks, 2 * ranks + 1, random);
    OrderGraph graph(start, costs);
    for (int move = 0; move < 300; ++move) {
      const auto node = static_cast<OrderGraph::Node>(random() % graph.size());
      const std::size_t last = graph.orders()[graph.rank_of(node)].size() - 1;
      const Nanoseconds limit = graph.makespan() + static_cast<Nanoseconds>(random() % 20) - 5;
      const Nanoseconds before = graph.makespan();
      const auto orders = graph.orders();
      std::vector<OrderGraph::Shift> shifts{{node, random() % (last + 1)}};
      const OrderGraph::Node other = orders[graph.rank_of(node)][random() % (last + 1)];
      if (random() % 4 == 0) shifts.push_back({other, random() % (last + 1)});
      if (graph.move(shifts, limit) == OrderGraph::Moved::kYes) {
        ++kept;
        ASSERT_LE(graph.makespan(), limit);
      } else {
        ++refused;
        ASSERT_EQ(graph.makespan(), before);
        ASSERT_EQ(graph.orders(), orders);
      }
      const Schedule now = graph.schedule(graph.orders());
      ASSERT_LT(first_over_cap(now, costs), 0);
      const Expected<OrderPrice> price = price_order(now, costs.actions);
      ASSERT_TRUE(price) << price.error().text();
      ASSERT_EQ(graph.makespan(), price->makespan);
      std::vector<OrderGraph::Node> path;
      graph.longest_path(random, path);
      const OrderGraph::Node end = path.back();
      ASSERT_EQ(graph.end_of(end), graph.makespan());
      for (const OrderGraph::Node node_on_path : path)
        ASSERT_EQ(graph.end_of(node_on_path) + graph.tail_of(node_on_path), graph.makespan());
    }
  }
  EXPECT_GT(kept, 300);
  EXPECT_GT(refused, 1000);
}

TEST(OrderWalk, IsProvenNeverSlowerAndTheSameForASeed) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 10; ++round) {
    const int ranks = 2 + static_cast<int>(random() % 4);
    const Schedule start = *generate("zbv", {ranks, 2 * ranks, 2, true});
    const OrderCosts costs = random_costs(ranks, 2 * ranks, 2 * ranks, random);
    WalkLimits limits;
    limits.moves = 3000;
    limits.seed = random();
    const WalkResult one = walk_orders(start, costs, limits);
    const WalkResult two = walk_orders(start, costs, limits);
    EXPECT_EQ(one.schedule, two.schedule);
    EXPECT_LE(one.progress.moves, 3000);
    EXPECT_LE(one.progress.makespan, OrderGraph(start, costs).makespan());
    EXPECT_EQ(one.progress.makespan, OrderGraph(one.schedule, costs).makespan());
    EXPECT_TRUE(verify(one.schedule));
  }
}

}  // namespace
}  // namespace plait
