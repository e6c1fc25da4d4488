#include "plait/record/loss_spikes.h"

#include <gtest/gtest.h>

#include <cmath>

namespace plait {
namespace {

TEST(LossSpikes, OneFarAboveTheLastIsASpike) {
  LossSpikes spikes;
  for (int step = 0; step < 40; ++step) EXPECT_EQ(spikes.add(2.0 + 0.01 * (step % 2)), "");
  EXPECT_EQ(
      spikes.add(4.0),
      "loss 4.0000 is a spike: the last 32 were 2.0050 on average, with a deviation of 0.0050");
  EXPECT_EQ(spikes.add(2.1), "");                              // above, by less than a tenth
  EXPECT_NE(spikes.add(4.0).find("2.00"), std::string::npos);  // spikes do not count
}

TEST(LossSpikes, AFallingLossThatIsNoisyHasNone) {
  LossSpikes spikes;
  for (int step = 0; step < 200; ++step)
    EXPECT_EQ(spikes.add(5.0 * std::exp(-0.01 * step) + 0.3 * std::sin(7.0 * step)), "") << step;
}

TEST(LossSpikes, OfTooFewOrOfNoNumbersNothingIsSaid) {
  LossSpikes spikes;
  for (int step = 0; step < 7; ++step) EXPECT_EQ(spikes.add(1.0), "");
  EXPECT_EQ(spikes.add(100.0), "");
  EXPECT_EQ(spikes.add(std::nan("")), "");
}

}  // namespace
}  // namespace plait
