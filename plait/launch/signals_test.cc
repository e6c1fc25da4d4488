#include "plait/launch/signals.h"

#include <gtest/gtest.h>

#include <unistd.h>
#include <csignal>

namespace plait {
namespace {

TEST(StopSignals, TheFirstIsNoted) {
  const StopSignals signals(nullptr);
  EXPECT_EQ(StopSignals::requested(), 0);
  raise(SIGTERM);
  EXPECT_EQ(StopSignals::requested(), SIGTERM);
}

void say_second() { (void)!write(STDERR_FILENO, "second\n", 7); }

TEST(StopSignalsDeath, TheSecondEndsAtOnce) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const StopSignals signals(say_second);
        raise(SIGINT);
        raise(SIGINT);
      },
      ::testing::ExitedWithCode(130), "second");
}

}  // namespace
}  // namespace plait
