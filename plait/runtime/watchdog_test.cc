#include "plait/runtime/watchdog.h"

#include <gtest/gtest.h>

#include <future>

namespace plait {
namespace {

constexpr Nanoseconds kSecond = 1'000'000'000;

/// A machine's clock that moves on by `step` whenever the watchdog looks, and counts the looks.
struct SteppingClock {
  Nanoseconds step = 0;
  std::atomic<int> looks = 0;
  Nanoseconds operator()() { return step * looks.fetch_add(1); }
};

TEST(Watchdog, TimeInWhichTheProcessWasStoppedDoesNotCount) {
  // An hour between two looks each: the process was stopped. 20 s of it would be too much.
  SteppingClock clock{3600 * kSecond};
  std::atomic<bool> aborted = false;
  {
    Watchdog watchdog(
        {}, [&](const Error&) { aborted = true; }, [&] { return clock(); });
    watchdog.set_timeout(20 * kSecond);
    watchdog.enter_step();
    while (clock.looks < 20) std::this_thread::yield();
  }
  EXPECT_FALSE(aborted);
}

TEST(Watchdog, TimeInWhichItRanDoes) {
  SteppingClock clock{RunningClock::kLongestStep};
  std::promise<Error> abort;
  Watchdog watchdog(
      {}, [&](const Error& error) { abort.set_value(error); }, [&] { return clock(); });
  watchdog.set_timeout(2 * kSecond);
  watchdog.enter_step();
  const Error error = abort.get_future().get();
  EXPECT_EQ(error.code, ErrorCode::kTimeout);
  EXPECT_EQ(error.message.substr(0, 32), "nothing has completed for 2.0 s:");
}

TEST(Watchdog, BetweenStepsNoTimeCounts) {
  SteppingClock clock{RunningClock::kLongestStep};
  std::atomic<bool> aborted = false;
  {
    Watchdog watchdog(
        {}, [&](const Error&) { aborted = true; }, [&] { return clock(); });
    watchdog.set_timeout(kSecond);
    watchdog.enter_step();
    watchdog.leave_step();
    while (clock.looks < 20) std::this_thread::yield();
  }
  EXPECT_FALSE(aborted);
}

}  // namespace
}  // namespace plait
