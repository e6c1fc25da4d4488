#include "plait/ir/placements.h"

#include <gtest/gtest.h>

namespace plait {
namespace {

TEST(Placements, LoopGoesRound) {
  EXPECT_EQ(place_loop(3, 6)->rank_of_stage, (std::vector<int>{0, 1, 2, 0, 1, 2}));
}

TEST(Placements, VGoesDownAndUpAndDownAgain) {
  EXPECT_EQ(place_v(4, 12)->rank_of_stage, (std::vector<int>{0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 3}));
  EXPECT_EQ(place_v(1, 2)->rank_of_stage, (std::vector<int>{0, 0}));
}

TEST(Placements, BidirectionalHasACopyEachWay) {
  const Expected<Placement> placement = place_bidirectional(4, 4);
  EXPECT_EQ(placement->rank_of_stage, (std::vector<int>{0, 1, 2, 3, 3, 2, 1, 0}));
  EXPECT_EQ(placement->stages(), 4);
  EXPECT_EQ(placement->rank_of(1, 1), 2);
  EXPECT_EQ(placement->stages_of(1), (std::vector<int>{1, 2}));
}

TEST(Placements, EveryRankGetsAsManyStages) {
  for (const PlacementInfo& info : kPlacements) {
    const Expected<Placement> placement = info.make(4, 12);
    ASSERT_TRUE(placement);
    EXPECT_EQ(placement->name, info.name);
    const std::size_t copies = static_cast<std::size_t>(placement->copies);
    for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(placement->stages_of(rank).size(), 3 * copies);
  }
}

TEST(Placements, ErrorsHoldTheNumbers) {
  EXPECT_EQ(place_v(4, 6).error().message,
            "stages is 6, must be a multiple of 4 ranks for placement v");
  EXPECT_EQ(place("u", 2, 2).error().message,
            "placement 'u' is not known, needed one of: loop, v, "
            "bidirectional");
}

}  // namespace
}  // namespace plait
