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
        {}, {.abort = [&](const Error&) { aborted = true; }, .clock = [&] { return clock(); }});
    watchdog.set_timeout(20 * kSecond);
    watchdog.enter_step();
    while (clock.looks < 20) std::this_thread::yield();
  }
  EXPECT_FALSE(aborted);
}

TEST(Watchdog, TimeInWhichItRanDoes) {
  SteppingClock clock{RunningClock::kLongestStep};
  std::promise<Error> abort;
  Watchdog watchdog({}, {.abort = [&](const Error& error) { abort.set_value(error); },
                         .clock = [&] { return clock(); }});
  watchdog.set_timeout(2 * kSecond);
  watchdog.enter_step();
  const Error error = abort.get_future().get();
  EXPECT_EQ(error.code, ErrorCode::kTimeout);
  EXPECT_EQ(error.message.substr(0, 32), "nothing has completed for 2.0 s:");
}

/// Ranks of other processes, as they were heard of.
struct FixedBoard final : StatusBoard {
  std::vector<RankDoing> others;
  std::atomic<int> posts = 0;
  void post(const std::vector<RankDoing>&) override { ++posts; }
  std::vector<RankDoing> read() override { return others; }
};

TEST(Watchdog, AReportIsMadeWhenItIsWantedAndTheRunGoesOn) {
  FixedBoard board;
  board.others = {{0, RankState::kWaits, "0RECV_B0 from rank 1", {1}, 3 * kSecond},
                  {1, RankState::kStopped, "1F0", {}, 4 * kSecond}};
  std::atomic<int> wanted = 2, aborts = 0;
  std::promise<void> both;
  std::vector<std::string> reports;
  Watchdog watchdog({}, {.abort = [&](const Error&) { ++aborts; },
                         .board = &board,
                         .report_wanted = [&] { return wanted.fetch_sub(1) > 0; },
                         .on_report =
                             [&](const std::string& text) {
                               reports.push_back(text);
                               if (reports.size() == 2) both.set_value();
                             }});
  both.get_future().get();
  EXPECT_EQ(
      reports[0].substr(0, 84),
      "the cause is rank 1, which is stopped (SIGSTOP): rank 0 waits for rank 1\n  rank 0 wa");
  EXPECT_EQ(reports[0], reports[1]);
  EXPECT_EQ(aborts, 0);
  EXPECT_GE(board.posts, 1);
}

TEST(Watchdog, BetweenStepsNoTimeCounts) {
  SteppingClock clock{RunningClock::kLongestStep};
  std::atomic<bool> aborted = false;
  {
    Watchdog watchdog(
        {}, {.abort = [&](const Error&) { aborted = true; }, .clock = [&] { return clock(); }});
    watchdog.set_timeout(kSecond);
    watchdog.enter_step();
    watchdog.leave_step();
    while (clock.looks < 20) std::this_thread::yield();
  }
  EXPECT_FALSE(aborted);
}

}  // namespace
}  // namespace plait
