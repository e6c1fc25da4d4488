/// Ends a step in which nothing completes any more, and says which rank is the cause.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "plait/base/running_clock.h"
#include "plait/program/grid.h"
#include "plait/runtime/executor.h"
#include "plait/runtime/stall.h"

namespace plait {

/// A thread that looks every 20 ms whether an instruction has completed. Only time in which this
/// process runs counts (plait/base/running_clock.h). One per process.
class Watchdog {
 public:
  struct Options {
    std::function<void(const Error&)> abort{};  ///< ends the comms of this process's ranks
    std::function<Nanoseconds()> clock = now;
    Grid grid{};                   ///< whose ranks a collective waits for
    StatusBoard* board = nullptr;  ///< of the ranks of other processes; null: there are none
    /// What each rank of this process did last goes to <folder>/rank-<r>.stall; empty: nowhere.
    std::string folder{};
    /// Asked every 20 ms: true once for each time that a report is wanted, which the run survives.
    std::function<bool()> report_wanted{};
    std::function<void(const std::string&)> on_report{};  ///< from the watchdog's thread
  };

  /// `executors`: those of all ranks of this process, which outlive it.
  Watchdog(const std::vector<Executor*>& executors, Options options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// A step fails with kTimeout after so many nanoseconds in which no rank of this process has
  /// completed anything. 0: never.
  void set_timeout(Nanoseconds timeout) { timeout_.store(timeout, std::memory_order_relaxed); }
  /// Time counts while at least one rank is in a step.
  void enter_step() { ranks_in_step_.fetch_add(1, std::memory_order_acq_rel); }
  void leave_step() { ranks_in_step_.fetch_sub(1, std::memory_order_acq_rel); }

  /// What all ranks of the run do, and which of them is the cause (describe_stall()). Where another
  /// process of the run makes that report too, and this one's lowest rank is not the lowest that
  /// can: what the ranks of this process do. Blocks for some seconds at most. Thread-safe.
  std::string report();

 private:
  /// One executor, and when it was last seen to go on.
  struct Watched {
    Executor* executor;
    std::uint32_t changes = 0;
    std::atomic<Nanoseconds> last_change = 0;

    explicit Watched(Executor* of) : executor(of) {}
  };

  void watch();
  bool look(Nanoseconds time);
  void end_step(Nanoseconds timeout);
  std::vector<RankDoing> doings() const;
  RankDoing doing_of(const Executor& executor, Nanoseconds since) const;
  std::string write_last_instructions() const;

  Options options_;
  std::vector<std::unique_ptr<Watched>> watched_;
  std::atomic<Nanoseconds> time_ = 0;  // of the watchdog's clock, when it looked last
  std::atomic<Nanoseconds> timeout_;
  std::atomic<int> ranks_in_step_ = 0;
  std::atomic<bool> stop_ = false;
  std::mutex board_mutex_;
  std::thread thread_;
};

}  // namespace plait
