/// Waiting for c10d's works on the thread that called step(), so that signals still arrive.
///
/// A point-to-point work of Gloo cannot be polled, a wait of it with a timeout closes the
/// connection, and a thread that waits in its place costs a wake-up for each message. But abort()
/// of such a work, from another thread, ends the wait alone: the work goes on, and may be awaited
/// anew. So one thread of the process looks every 25 ms for waits that it has seen before, and
/// aborts them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <vector>

namespace plait::python {

/// Where one thread waits. Not movable: the process's thread looks at it.
class WaitPlace {
 public:
  WaitPlace();
  ~WaitPlace();
  WaitPlace(const WaitPlace&) = delete;
  WaitPlace& operator=(const WaitPlace&) = delete;

  /// True when the work has ended; false after 25 to 50 ms. Throws what the work ended with.
  bool wait(c10d::Work& work);

  /// Between these waits are looked at.
  void begin_step();
  void end_step();

 private:
  friend class WaitWatch;
  void look();

  std::mutex mutex_;
  c10d::Work* work_ = nullptr;
  std::uint64_t waits_ = 0;  // begun so far
  std::uint64_t seen_ = 0;   // the last one that look() has seen
  bool in_step_ = false;
};

}  // namespace plait::python
