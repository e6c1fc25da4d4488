#include "plait/draw/action_look.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/files.h"

namespace plait {
namespace {

/// Red, green or blue of the colour `number` of a terminal, from 16 on: a cube of six levels.
int level(int number, std::size_t channel) {
  constexpr std::array kLevels{0, 95, 135, 175, 215, 255};
  constexpr std::array kSteps{36, 6, 1};
  const int place = (number - 16) / kSteps[channel] % 6;
  return kLevels[static_cast<std::size_t>(place)];
}

int nearest(std::string_view hex) {
  int best = -1, least = std::numeric_limits<int>::max();
  for (int number = 16; number < 232; ++number) {
    int distance = 0;
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const std::size_t at = 1 + 2 * channel;
      const int off =
          std::stoi(std::string(hex.substr(at, 2)), nullptr, 16) - level(number, channel);
      distance += off * off;
    }
    if (distance < least) best = number;
    least = std::min(least, distance);
  }
  return best;
}

TEST(ActionLook, TerminalsShowTheColoursOfPictures) {
  for (const ActionColour& colour : kActionColours) {
    EXPECT_EQ(colour.terminal_first_stage, nearest(colour.first_stage)) << colour.name;
    EXPECT_EQ(colour.terminal_later_stage, nearest(colour.later_stage)) << colour.name;
  }
}

TEST(ActionLook, ThePageHasTheSameColours) {
  const std::string page = testing::read_text("viewer/draw.js");
  for (const ActionColour& colour : kActionColours) {
    EXPECT_NE(page.find(colour.first_stage), std::string::npos) << colour.name;
    EXPECT_NE(page.find(colour.later_stage), std::string::npos) << colour.name;
  }
}

}  // namespace
}  // namespace plait
