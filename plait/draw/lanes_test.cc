#include "plait/draw/lanes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plait {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::SizeIs;

struct Ran {
  int rank;
  ActionType type;
  int stage, microbatch;
  Nanoseconds begin, end;
  int pair = -1;
  Lane lane = Lane::kCompute;
};

/// The rows alone, 20 columns of time or fewer.
std::vector<std::string> rows(int ranks, const std::vector<Ran>& events, int columns = 20) {
  Timeline timeline{ranks, {}};
  for (const Ran& ran : events) {
    TimelineEvent event;
    event.rank = ran.rank;
    event.lane = ran.lane;
    event.action = {ran.stage, ran.microbatch, ran.type, 0};
    event.pair = ran.pair;
    event.begin = 1000 + ran.begin;
    event.end = 1000 + ran.end;
    timeline.events.push_back(event);
  }
  std::vector<std::string> lines = draw_lanes(timeline, {.colour = false, .width = 7 + columns});
  lines.resize(lines.size() - 2);
  return lines;
}

constexpr auto kF = ActionType::kForward, kB = ActionType::kBackward;

TEST(Lanes, OneFOneBByHand) {
  // 20 columns for 5 ns are 4 a nanosecond. Rank 1's stage is its first too.
  EXPECT_THAT(
      rows(2, {{0, kF, 0, 0, 0, 1}, {0, kB, 0, 0, 3, 5}, {1, kF, 1, 0, 1, 2}, {1, kB, 1, 0, 2, 3}}),
      ElementsAre("rank 0 f0--........b0------", "rank 1 ....f0--b0--........"));
}

TEST(Lanes, ShortSpansGetWholeColumns) {
  // 7 ns in 20 columns: two each, six columns stay free.
  EXPECT_THAT(rows(1, {{0, kF, 0, 0, 0, 3}, {0, kF, 0, 1, 3, 7}}),
              ElementsAre("rank 0 f0----f1------"));
}

TEST(Lanes, AColumnShowsWhatTookMostOfIt) {
  // 100 ns a column. The second is 40 idle, the third 60; the fourth's parts of F3 outweigh F2.
  EXPECT_THAT(rows(1, {{0, kF, 0, 0, 0, 160},
                       {0, kF, 0, 1, 260, 300},
                       {0, kF, 0, 2, 300, 340},
                       {0, kF, 0, 3, 340, 370},
                       {0, kF, 0, 3, 370, 400},
                       {0, kB, 4, 0, 1900, 2000}}),
              ElementsAre("rank 0 f0.f...............B"));
}

TEST(Lanes, NumbersAreWholeOrLeftOut) {
  EXPECT_THAT(
      rows(1, {{0, kF, 0, 123, 0, 300}, {0, kF, 0, 124, 300, 700}, {0, kF, 0, 5, 700, 2000}}),
      ElementsAre("rank 0 f--f124f5-----------"));
}

TEST(Lanes, MembersOfAPairShareColumnsInWhichBothRun) {
  // Braided: alternating. At one time: each has a half of the columns.
  EXPECT_THAT(rows(1, {{0, kF, 0, 7, 0, 3, 0}, {0, kB, 1, 3, 3, 6, 0}, {0, kF, 0, 7, 6, 10, 0}}),
              ElementsAre("rank 0 f7====B3====f7======"));
  EXPECT_THAT(rows(1, {{0, kF, 0, 7, 0, 9, 0}, {0, kB, 1, 3, 0, 10, 0}}),
              ElementsAre("rank 0 f7=======B3=======B3"));
}

TEST(Lanes, CommunicationHasARowOfItsOwn) {
  EXPECT_THAT(rows(2, {{0, kF, 0, 0, 0, 5},
                       {0, ActionType::kSendF, 0, 0, 5, 7, -1, Lane::kCommunication},
                       {1, kF, 1, 0, 7, 10}}),
              ElementsAre("rank 0 f0--------..........", "  comm ..........>0--......",
                          "rank 1 ..............f0----"));
}

TEST(Lanes, AxisAndLegend) {
  Timeline timeline{11, {}};
  TimelineEvent event;
  event.action = {0, 0, kF, 0};
  event.begin = 5;
  event.end = 1'234'567'005;
  timeline.events.push_back(event);
  const auto lines = draw_lanes(timeline, {.colour = false, .width = 38});
  ASSERT_THAT(lines, SizeIs(13));
  EXPECT_EQ(lines[0], "rank 0  f0----------------------------");
  EXPECT_EQ(lines[10], "rank 10 ..............................");
  EXPECT_EQ(lines[11], "        0                    1234.6 ms");
  EXPECT_EQ(lines[12], "f forward  b backward");
}

TEST(Lanes, ColoursAreThoseOfPictures) {
  Timeline timeline{1, {}};
  TimelineEvent event;
  event.action = {0, 0, kF, 0};
  event.end = 7;
  timeline.events.push_back(event);
  EXPECT_EQ(draw_lanes(timeline, {.colour = true, .width = 20})[0],
            "rank 0 \x1b[48;5;215;38;5;16mf0-----\x1b[0m");
}

TEST(Lanes, NothingIsDrawnAsNothing) {
  EXPECT_THAT(rows(1, {}, 13), ElementsAre());  // only the row and what the letters mean
  EXPECT_THAT(draw_lanes({0, {}}, {}), SizeIs(1));
  // Times from the whole range of a file.
  EXPECT_THAT(rows(1, {{0, kF, 0, 0, 0, Nanoseconds{1} << 52}, {0, kF, 0, 0, 0, 0}}, 4000),
              Each(SizeIs(4007)));
}

}  // namespace
}  // namespace plait
