#include "plait/draw/loss_curve.h"

#include <gtest/gtest.h>

#include <limits>

namespace plait {
namespace {

std::string drawn(const std::vector<LossPoint>& losses, const std::vector<LossPoint>& validations,
                  int columns, int rows) {
  std::string text;
  for (const std::string& line : draw_losses(losses, validations, columns, rows))
    text += line + "\n";
  return text;
}

TEST(LossCurve, ALineByHand) {
  // Down by four signs' height over four signs' width: two points of eight to the right, four down.
  EXPECT_EQ(drawn({{1, 16}, {9, 1}}, {}, 12, 4), R"(loss 16.0000 to 1.0000
     16 ⠱⡀
         ⠱⡀
          ⢣
      1    ⢣
        1  9
)");
}

TEST(LossCurve, StepsThatShareAPointAreAveraged) {
  std::vector<LossPoint> losses;
  for (int step = 1; step <= 1000; ++step) losses.push_back({step, step % 2 == 0 ? 5.0 : 3.0});
  losses.push_back({1001, 0});
  EXPECT_EQ(drawn(losses, {}, 20, 4), R"(loss 3.0000 to 0.0000
  4.023 ⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⢱
                   ⢸
                   ⢸
      0            ⢸
        1       1001
)");
}

TEST(LossCurve, ValidationsLieAmongThem) {
  std::vector<LossPoint> losses;
  for (int step = 1; step <= 300; ++step) losses.push_back({step, 1.5 + 80.0 / (20 + step)});
  EXPECT_EQ(drawn(losses, {{100, 2.8}, {200, 2.5}, {300, 2}}, 60, 6),
            R"(loss 5.3095 to 1.7500  o validation 2.0000 after step 300
  5.141 ⢱
         ⢣
          ⠣⡀
           ⠈⠢⢄⡀
              ⠈⠉⠒⠢⠤⢄⣀⣀⡀  o                o
   1.75               ⠈⠉⠉⠉⠑⠒⠒⠒⠒⠒⠒⠢⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀o
        1                                                300
)");
}

TEST(LossCurve, OnePointAndEqualLosses) {
  EXPECT_EQ(drawn({{7, 3}}, {}, 20, 3), R"(loss 3.0000 to 3.0000


      3 ⡀
        7          7
)");
  EXPECT_EQ(drawn({{1, 3}, {2, 3}}, {}, 20, 2), R"(loss 3.0000 to 3.0000

      3 ⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀
        1          2
)");
}

TEST(LossCurve, ExtremesStayInside) {
  constexpr double kMost = std::numeric_limits<double>::max();
  constexpr int kLast = std::numeric_limits<int>::max();
  EXPECT_EQ(draw_losses({{1, kMost}, {kLast, -kMost}}, {{-kLast, 0}}, 20, 5).size(), 7U);
}

}  // namespace
}  // namespace plait
