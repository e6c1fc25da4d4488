/// Ends a step in which nothing completes any more, and says who waits for whom.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "plait/base/running_clock.h"
#include "plait/runtime/executor.h"

namespace plait {

/// A thread that looks every 20 ms whether an instruction has completed. Only time in which this
/// process runs counts (plait/base/running_clock.h). One per process.
class Watchdog {
 public:
  /// `executors`: those of all ranks of this process. `abort` ends their comms. `clock`: the
  /// machine's time.
  Watchdog(std::vector<Executor*> executors, std::function<void(const Error&)> abort,
           std::function<Nanoseconds()> clock = now);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// A step fails with kTimeout after so many nanoseconds in which no rank of this process has
  /// completed anything. 0: never.
  void set_timeout(Nanoseconds timeout) { timeout_.store(timeout, std::memory_order_relaxed); }
  /// Time counts while at least one rank is in a step.
  void enter_step() { ranks_in_step_.fetch_add(1, std::memory_order_acq_rel); }
  void leave_step() { ranks_in_step_.fetch_sub(1, std::memory_order_acq_rel); }

 private:
  void watch();
  std::uint64_t completions() const;
  void end_step(Nanoseconds timeout);

  std::vector<Executor*> executors_;
  std::function<void(const Error&)> abort_;
  std::function<Nanoseconds()> clock_;
  std::atomic<Nanoseconds> timeout_;
  std::atomic<int> ranks_in_step_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

/// "rank 2 waits in 3RECV_F5 from rank 1, which is in 2W4; …" for ranks of this process.
std::string who_waits_for_whom(const std::vector<Executor*>& executors);

}  // namespace plait
