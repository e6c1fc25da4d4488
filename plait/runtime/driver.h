/// Drives an executor through a step on real threads, under a watchdog's clock.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "plait/runtime/executor.h"

namespace plait {

/// How a rank's thread waits for what another one makes.
enum class Wait : std::uint8_t {
  kSpin,   ///< for a while, then asleep: what comes soon comes without a wake-up
  kSleep,  ///< at once: where the threads that move bytes need the core
};

/// Runs one step to its end and blocks between advances. Errors: the step's first.
Expected<void> run_step(Executor& executor, Wait wait);

/// Ends a step in which nothing completes any more. One per process.
class Watchdog {
 public:
  /// `abort` ends the comms of all ranks of this process. Executors are those of this process.
  Watchdog(std::vector<Executor*> executors, std::function<void(const Error&)> abort);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// From when on a time counts: `timeout` nanoseconds without any completion of any rank.
  void set_timeout(Nanoseconds timeout) { timeout_.store(timeout, std::memory_order_relaxed); }
  /// Counts only while at least one rank is in a step.
  void enter_step() { ranks_in_step_.fetch_add(1, std::memory_order_acq_rel); }
  void leave_step() { ranks_in_step_.fetch_sub(1, std::memory_order_acq_rel); }

 private:
  void watch();

  std::vector<Executor*> executors_;
  std::function<void(const Error&)> abort_;
  std::atomic<Nanoseconds> timeout_;
  std::atomic<int> ranks_in_step_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

/// "rank 2 waits in 3RECV_F5 from rank 1, which is in 2W4; …" for ranks of this process.
std::string who_waits_for_whom(const std::vector<Executor*>& executors);

/// Calls `run` for each rank on a thread of its own and joins them. When one fails, `abort` is
/// called with an error that names it. Returns the first cause, not its consequences.
Expected<void> run_ranks(int ranks, const std::function<Expected<void>(int rank)>& run,
                         const std::function<void(const Error&)>& abort);

}  // namespace plait
