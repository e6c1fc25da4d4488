/// Drives executors through a step on real threads.
#pragma once

#include <functional>

#include "plait/runtime/executor.h"

namespace plait {

/// How a rank's thread waits until it can go on.
enum class Wait : std::uint8_t {
  kSpin,   ///< it spins for a while, then sleeps: a message that comes soon costs no wake-up
  kSleep,  ///< it sleeps at once: threads that move bytes need its core
};

/// Who issues the communication that a completed message has made ready.
enum class Chaining : std::uint8_t {
  /// The rank's thread, when its compute instruction has ended or it is woken.
  kOwnThread,
  /// The thread that completes the message, at once: it may be another rank's, or a comm's. Pays
  /// where the result of one exchange feeds another (counts, then dispatch), as the second leaves
  /// under the compute that runs. On an asynchronous device it is kOwnThread.
  kOnCompletion,
};

/// Runs one step to its end and blocks between advances. Errors: the step's first.
Expected<void> run_step(Executor& executor, Wait wait, Chaining chaining);

/// Calls `run` for each rank on a thread of its own and joins them. When one fails, `abort` is
/// called with an error that names it. Returns the first cause, not its consequences.
Expected<void> run_ranks(int ranks, const std::function<Expected<void>(int rank)>& run,
                         const std::function<void(const Error&)>& abort);

}  // namespace plait
