#include "plait/runtime/watchdog.h"

#include <fmt/core.h>

#include <chrono>

namespace plait {

Watchdog::Watchdog(std::vector<Executor*> executors, std::function<void(const Error&)> abort,
                   std::function<Nanoseconds()> clock)
    : executors_(std::move(executors)),
      abort_(std::move(abort)),
      clock_(std::move(clock)),
      timeout_(0),
      thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
  stop_.store(true, std::memory_order_release);
  thread_.join();
}

std::uint64_t Watchdog::completions() const {
  std::uint64_t sum = 0;
  for (Executor* executor : executors_) sum += executor->changes().load(std::memory_order_acquire);
  return sum;
}

void Watchdog::watch() {
  RunningClock running(clock_);
  std::uint64_t last_sum = 0;
  Nanoseconds last_change = running.read();
  while (!stop_.load(std::memory_order_acquire)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const Nanoseconds time = running.read();
    const std::uint64_t sum = completions();
    const Nanoseconds timeout = timeout_.load(std::memory_order_relaxed);
    if (sum != last_sum || ranks_in_step_.load(std::memory_order_acquire) == 0 || timeout == 0) {
      last_sum = sum;
      last_change = time;
    } else if (time - last_change > timeout) {
      end_step(timeout);
      return;
    }
  }
}

void Watchdog::end_step(Nanoseconds timeout) {
  const Error error{ErrorCode::kTimeout,
                    fmt::format("nothing has completed for {:.1f} s: {}",
                                static_cast<double>(timeout) / 1e9, who_waits_for_whom(executors_)),
                    ""};
  for (Executor* executor : executors_) executor->fail_step(error);
  abort_(error);
}

std::string who_waits_for_whom(const std::vector<Executor*>& executors) {
  std::string text;
  for (const Executor* executor : executors) {
    if (!text.empty()) text += "; ";
    text += fmt::format("rank {} {}", executor->rank(), executor->status());
    for (const Executor* other : executors) {
      if (other->rank() == executor->awaited_rank())
        text += fmt::format(", which {}", other->status());
    }
  }
  return text;
}

}  // namespace plait
