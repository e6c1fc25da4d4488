/// Keeps a rank on cores of its own.
#pragma once

#include "plait/base/error.h"

namespace plait {

/// Cores that this process may run on.
int allowed_cores();

/// Binds the calling thread, and those that it starts from then on, to the `rank`-th `threads` of
/// the allowed cores, in ascending order. `rank` counts those of this machine.
/// Errors (kInvalidInput): fewer cores than that; (kRuntime): the system refuses.
Expected<void> pin_to_cores(int rank, int threads);

}  // namespace plait
