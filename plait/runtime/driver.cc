#include "plait/runtime/driver.h"

#include <fmt/core.h>

#include <mutex>
#include <optional>
#include <thread>

#include "plait/runtime/rank_threads.h"

namespace plait {
namespace {

// A wake-up by the kernel costs about ten microseconds. A rank spins for what comes sooner, and
// yields between rounds to ranks that share its core.
constexpr int kSpinRounds = 40;
constexpr int kSpinsPerRound = 400;

// Nobody wakes the host when a mark passes: it asks again, first at once, then after this time.
constexpr int kMarkRounds = 20;
constexpr std::chrono::microseconds kMarkPoll{20};

void wait_for_mark(const Executor& executor) {
  for (int round = 0; round < kMarkRounds; ++round) {
    std::this_thread::yield();
    if (!executor.waits_for_marks()) return;
  }
  std::this_thread::sleep_for(kMarkPoll);
}

// kSleep: threads that move bytes share a core with ranks that compute. A thread that yields to one
// that computes may not run before the scheduler's next tick, milliseconds later; a thread that is
// woken runs at once.
void wait_for_change(Executor& executor, std::uint32_t seen, Wait wait) {
  if (executor.waits_for_marks()) return wait_for_mark(executor);
  const std::atomic<std::uint32_t>& changes = executor.changes();
  for (int round = 0; wait == Wait::kSpin && round < kSpinRounds; ++round) {
    for (int spin = 0; spin < kSpinsPerRound; ++spin) {
      if (changes.load(std::memory_order_acquire) != seen) return;
    }
    std::this_thread::yield();
  }
  executor.sleep_until_change(seen);
}

}  // namespace

Expected<void> run_step(Executor& executor, Wait wait, Chaining chaining) {
  executor.begin_step();
  executor.issue_on_completion(chaining == Chaining::kOnCompletion);
  while (true) {
    const std::uint32_t seen = executor.changes().load(std::memory_order_acquire);
    executor.advance_communication();
    // One instruction at a time: a send is issued as soon as its producer has run.
    const LaneStatus compute = executor.advance(Lane::kCompute, 1);
    if (executor.failed()) return tl::unexpected<Error>(executor.error());
    if (executor.finished()) return executor.end_step();
    if (compute != LaneStatus::kReady && executor.changes().load(std::memory_order_acquire) == seen)
      wait_for_change(executor, seen, wait);
  }
}

Expected<void> run_ranks(int ranks, const std::function<Expected<void>(int)>& run,
                         const std::function<void(const Error&)>& abort) {
  RankThreads threads(ranks);
  return threads.run(run, abort);
}

}  // namespace plait
