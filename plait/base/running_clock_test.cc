#include "plait/base/running_clock.h"

#include <gtest/gtest.h>

namespace plait {
namespace {

constexpr Nanoseconds kMillisecond = 1'000'000;

TEST(RunningClock, CountsWhatAProcessRan) {
  Nanoseconds machine = 77 * kMillisecond;
  RunningClock clock([&] { return machine; });
  EXPECT_EQ(clock.read(), 0);
  machine += 20 * kMillisecond;
  EXPECT_EQ(clock.read(), 20 * kMillisecond);
  machine += RunningClock::kLongestStep;
  EXPECT_EQ(clock.read(), 20 * kMillisecond + RunningClock::kLongestStep);
}

TEST(RunningClock, OfAStopItCountsOneStep) {
  Nanoseconds machine = 0;
  RunningClock clock([&] { return machine; });
  machine += 3600'000 * kMillisecond;
  EXPECT_EQ(clock.read(), RunningClock::kLongestStep);
  machine += 30 * kMillisecond;
  EXPECT_EQ(clock.read(), RunningClock::kLongestStep + 30 * kMillisecond);
}

}  // namespace
}  // namespace plait
