#include "plait/draw/ascii.h"

#include <gtest/gtest.h>

#include "plait/ir/forms/csv.h"
#include "tests/support/files.h"

namespace plait {
namespace {

Schedule read(const std::string& csv) { return *read_csv(csv, "test", {}); }

TEST(Ascii, DualPipeVIsTheGolden) {
  EXPECT_EQ(*draw_schedule(read(testing::read_golden("dualpipev_4rank_10mb.csv")), {}),
            testing::read_golden("dualpipev_4rank_10mb.txt"));
}

TEST(Ascii, OneFOneBByHand) {
  // F takes 1, B takes 2: rank 1 runs F0 at 1, B0 at 2; rank 0 has B0 at 4, F1 right behind F0.
  const std::string picture = *draw_schedule(read("0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n"), {});
  EXPECT_EQ(picture.substr(0, picture.find("\nf forward")),
            "rank 0 f0f1. . b0--. b1--\n"
            "rank 1 . f0b0--f1b1--. .");
}

TEST(Ascii, LongPicturesFold) {
  const std::string picture = *draw_schedule(
      read("0F0,0F1,0F2,0F3,0F4,0F5,0B0,0B1,0B2,0B3,0B4,0B5\n"), {.colour = false, .width = 23});
  EXPECT_EQ(picture.substr(0, picture.find("f forward")),
            "rank 0 f0f1f2f3f4f5b0--\n\n"
            "rank 0 b1--b2--b3--b4--\n\n"
            "rank 0 b5--\n");
}

TEST(Ascii, ColourHasNoPlainLettersOutsideEscapes) {
  const std::string picture = *draw_schedule(read("0F0,0B0\n"), {.colour = true, .width = 80});
  EXPECT_EQ(picture.substr(0, picture.find("\nf forward")),
            "rank 0 \x1b[48;5;215;38;5;16mf0\x1b[0m\x1b[48;5;73;38;5;16mb0--\x1b[0m");
}

TEST(Ascii, ACircleIsAnError) { EXPECT_FALSE(draw_schedule(read("0B0,0F0\n1F0,1B0\n"), {})); }

}  // namespace
}  // namespace plait
