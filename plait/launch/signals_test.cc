#include "plait/launch/signals.h"

#include <gtest/gtest.h>

#include <unistd.h>
#include <csignal>

namespace plait {
namespace {

TEST(StopSignals, AfterDeferTheFirstIsNoted) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const StopSignals signals(nullptr);
    StopSignals::defer();
    EXPECT_EQ(StopSignals::requested(), 0);
    raise(signal);
    EXPECT_EQ(StopSignals::requested(), signal);
  }
}

TEST(StopSignals, AHangUpThatIsIgnoredStaysIgnored) {
  std::signal(SIGHUP, SIG_IGN);
  {
    const StopSignals signals(nullptr);
    raise(SIGHUP);  // in set-up it would end the process
    StopSignals::defer();
    raise(SIGHUP);
    EXPECT_EQ(StopSignals::requested(), 0);
  }
  EXPECT_EQ(std::signal(SIGHUP, SIG_DFL), SIG_IGN);
}

void say_which(int signal) {
  const char digit = static_cast<char>('0' + signal);
  (void)!write(STDERR_FILENO, &digit, 1);
}

TEST(StopSignalsDeath, InSetUpTheFirstEndsAtOnce) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const StopSignals signals(say_which);
        raise(SIGINT);
      },
      ::testing::ExitedWithCode(130), "2");
  EXPECT_EXIT(
      {
        const StopSignals signals(say_which);
        raise(SIGHUP);
      },
      ::testing::ExitedWithCode(129), "1");
}

TEST(StopSignalsDeath, TheSecondEndsAtOnce) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const StopSignals signals(say_which);
        StopSignals::defer();
        raise(SIGTERM);
        raise(SIGINT);
      },
      ::testing::ExitedWithCode(130), "2");
}

}  // namespace
}  // namespace plait
