#include "plait/passes/arrived.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "plait/ir/placements.h"

namespace plait::passes_detail {
namespace {

TEST(Arrived, AnswersAsASetDoesInAnyOrderOfArrival) {
  Schedule schedule;
  schedule.placement = *place_loop(2, 2);
  schedule.microbatches = 5;
  const ValueNumbers values(schedule);
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::size_t> order;
    for (const Direction direction : {Direction::kForward, Direction::kBackward}) {
      for (int stage = 0; stage < 2; ++stage) {
        for (int mb = 0; mb < schedule.microbatches; ++mb)
          order.push_back(values.number(direction, stage, mb));
      }
    }
    std::shuffle(order.begin(), order.end(), random);
    Arrived arrived(values);
    for (std::size_t count = 0; count < order.size(); ++count) {
      for (std::size_t i = 0; i < order.size(); ++i) {
        EXPECT_EQ(arrived.has(order[i]), i < count) << "round " << round;
      }
      arrived.add(order[count]);
      arrived.add(order[count / 2]);  // one that is there already
    }
  }
}

}  // namespace
}  // namespace plait::passes_detail
