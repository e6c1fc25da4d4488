#include "plait/draw/braid_picture.h"

#include <gtest/gtest.h>

#include "plait/braid/braid_text.h"

namespace plait {
namespace {

LayerBraid small() {
  return *read_braid_text(
      "braid 1\nlayers 1\nsegment a.F compute ns 10\nsegment b.F communication needs a.F ns 20\n"
      "segment c.B compute ns 10\ncompute: a.F c.B\ncommunication: b.F\n",
      "f");
}

TEST(BraidPicture, ShowsWhatRunsWhenOnEachLane) {
  EXPECT_EQ(*draw_braid(small(), 44),
            "from 0 ns\n"
            "compute       |a.F======|c.B======..........\n"
            "communication ..........|b.F================\n"
            "ends at 30 ns\n");
}

TEST(BraidPicture, IsFoldedWhereWordsNeedRoom) {
  EXPECT_EQ(*draw_braid(small(), 24),
            "from 0 ns\n"
            "compute       |a.F=|c.B=\n"
            "communication .....|b.F=\n"
            "from 20 ns\n"
            "compute       .....\n"
            "communication =====\n"
            "ends at 30 ns\n");
}

TEST(BraidPicture, NeedsCosts) {
  EXPECT_EQ(draw_braid(default_layer_braid(), 100).error().message,
            "a segment has no cost, needed for a picture");
}

}  // namespace
}  // namespace plait
