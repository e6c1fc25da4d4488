#include "plait/draw/svg.h"

#include <gmock/gmock.h>

#include <string>

namespace plait {
namespace {

using testing::HasSubstr;
using testing::Not;

TimelineEvent event(ActionType type, int stage, int microbatch, Nanoseconds begin, Nanoseconds end,
                    int pair = -1) {
  TimelineEvent made;
  made.action = {stage, microbatch, type, 0};
  made.begin = begin;
  made.end = end;
  made.pair = pair;
  return made;
}

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++found;
  return found;
}

TEST(Svg, NamesAreTextOnly) {
  const std::string svg =
      draw_svg({1, {event(ActionType::kForward, 0, 7, 0, 10)}}, {"<script>\"a\" & b</script>\n"});
  EXPECT_THAT(svg, HasSubstr("&lt;script&gt;&quot;a&quot; &amp; b&lt;/script&gt; "));
  EXPECT_THAT(svg, Not(HasSubstr("<script")));
}

TEST(Svg, BoxesLieWhereTheyRan) {
  // 1084 pixels between the margins stand for 1084 ns.
  const std::string svg = draw_svg({1,
                                    {event(ActionType::kForward, 0, 7, 1000, 1100),
                                     event(ActionType::kBackwardInput, 3, 12, 1100, 2084)}},
                                   {});
  EXPECT_THAT(svg,
              HasSubstr("<rect x=\"54\" y=\"6\" width=\"100\" height=\"24\" fill=\"#f0c15c\""));
  EXPECT_THAT(svg, HasSubstr("<title>0F7: 0 to 100 ns</title>"));
  // A later stage of the rank is darker.
  EXPECT_THAT(svg,
              HasSubstr("<rect x=\"154\" y=\"6\" width=\"984\" height=\"24\" fill=\"#2b86bd\""));
  EXPECT_THAT(svg, HasSubstr(">12</text>"));
  EXPECT_THAT(svg, HasSubstr("0 % idle"));
}

TEST(Svg, MembersThatRunAtOneTimeShareTheRow) {
  const auto halves = [](Nanoseconds backward_begin) {
    const std::string svg = draw_svg({1,
                                      {event(ActionType::kForward, 0, 1, 0, 50, 0),
                                       event(ActionType::kBackward, 0, 0, backward_begin, 100, 0)}},
                                     {});
    return count(svg, "height=\"12\" fill=\"#f0c15c\" stroke") +
           count(svg, "height=\"12\" fill=\"#5bbf9f\" stroke");
  };
  EXPECT_EQ(halves(0), 2);
  EXPECT_EQ(halves(50), 0);
}

TEST(Svg, NarrowBoxesHaveNoNumberAndAPairHasOneFrame) {
  const std::string svg = draw_svg(
      {1,
       {event(ActionType::kForward, 0, 1, 0, 1, 0), event(ActionType::kBackward, 0, 0, 1, 2, 0),
        event(ActionType::kForward, 0, 2, 2, 100000)}},
      {});
  EXPECT_EQ(count(svg, "text-anchor=\"middle\" fill=\"#000\">1</text>"), 0);
  EXPECT_EQ(count(svg, "fill=\"none\""), 2);  // the pair's and the legend's
}

TEST(Svg, AnEmptyTimelineIsAnEmptyPicture) {
  EXPECT_THAT(draw_svg({2, {}}, {}), HasSubstr("rank 1"));
  EXPECT_THAT(draw_svg({0, {}}, {}), HasSubstr("</svg>"));
}

}  // namespace
}  // namespace plait
