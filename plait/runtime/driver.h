/// Drives executors through a step on real threads.
#pragma once

#include <functional>

#include "plait/runtime/executor.h"

namespace plait {

/// How a rank's thread waits for what another one makes.
enum class Wait : std::uint8_t {
  kSpin,   ///< for a while, then asleep: what comes soon comes without a wake-up
  kSleep,  ///< at once: where the threads that move bytes need the core
};

/// Runs one step to its end and blocks between advances. Errors: the step's first.
Expected<void> run_step(Executor& executor, Wait wait);

/// Calls `run` for each rank on a thread of its own and joins them. When one fails, `abort` is
/// called with an error that names it. Returns the first cause, not its consequences.
Expected<void> run_ranks(int ranks, const std::function<Expected<void>(int rank)>& run,
                         const std::function<void(const Error&)>& abort);

}  // namespace plait
