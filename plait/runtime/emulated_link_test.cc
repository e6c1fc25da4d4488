#include "plait/runtime/emulated_link.h"

#include <gtest/gtest.h>

#include <atomic>

#include "plait/runtime/inproc_comm.h"
#include "tests/support/exchange_world.h"

namespace plait {
namespace {

/// Notes when a message was complete.
class Clock final : public CompletionSink {
 public:
  void completed(std::uint32_t, Expected<Value> result) noexcept override {
    failed = !result;
    at = now();
    at.notify_all();
  }
  Nanoseconds wait() {
    at.wait(0);
    return at;
  }
  std::atomic<Nanoseconds> at = 0;
  std::atomic<bool> failed = false;
};

// Lower limits only: a link may be slower than it was told, never faster.
TEST(DelayedComm, AMessageTakesLatencyAndItsBytesTime) {
  InprocWorld world(2);
  DelayedComm comm(world.comm(0), {10'000'000, 8'000});  // 10 ms, a double a millisecond
  const Message first{0, 1, Direction::kForward, 0, 0};
  const Message second{0, 1, Direction::kForward, 0, 1};
  Clock sent, received_first, received_second;
  world.comm(1).recv(first, {}, 0, received_first);
  world.comm(1).recv(second, {}, 0, received_second);
  const Nanoseconds begin = now();
  comm.send(first, testing::numbers({1, 2}), 0, sent);
  comm.send(second, testing::numbers({1}), 0, sent);
  EXPECT_GE(received_first.wait() - begin, 12'000'000);
  EXPECT_GE(received_second.wait() - begin, 13'000'000);  // the bytes queue, the latency does not
}

TEST(DelayedComm, AnExchangePaysForWhatLeaves) {
  InprocWorld world(Grid{1, 1, 2});
  DelayedComm comm(world.comm(0), {0, 8'000});
  Collective collective;
  Clock mine, theirs;
  const Nanoseconds begin = now();
  comm.collective(collective,
                  std::make_unique<testing::NumbersExchange>(std::vector<double>(20, 1.0), 2), 0,
                  mine);
  world.comm(1).collective(
      collective, std::make_unique<testing::NumbersExchange>(std::vector<double>(20, 2.0), 2), 0,
      theirs);
  EXPECT_GE(theirs.wait() - begin, 10'000'000);
  EXPECT_GE(mine.wait() - begin, 10'000'000);
}

TEST(DelayedComm, AbortReachesTheCommBelow) {
  InprocWorld world(2);
  DelayedComm comm(world.comm(0), {1'000, 0});
  Clock received;
  comm.recv({1, 0, Direction::kForward, 0, 0}, {}, 0, received);
  comm.abort({ErrorCode::kPeer, "rank 1 died", ""});
  received.wait();
  EXPECT_TRUE(received.failed);
}

TEST(DelayedComm, AbortEndsWhatIsOnItsWay) {
  InprocWorld world(2);
  DelayedComm comm(world.comm(0), {3'600'000'000'000, 0});  // an hour
  Clock sent, sent_later;
  comm.send({0, 1, Direction::kForward, 0, 0}, testing::numbers({1}), 0, sent);
  comm.abort({ErrorCode::kPeer, "rank 1 died", ""});
  sent.wait();
  EXPECT_TRUE(sent.failed);
  comm.send({0, 1, Direction::kForward, 0, 1}, testing::numbers({1}), 0, sent_later);
  sent_later.wait();
  EXPECT_TRUE(sent_later.failed);
}

}  // namespace
}  // namespace plait
