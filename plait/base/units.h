/// Units of all quantities that cross a header: integers, so that equal inputs give equal bytes.
#pragma once

#include <chrono>
#include <cstdint>

namespace plait {

using Nanoseconds = std::int64_t;
using Bytes = std::int64_t;

/// Monotonic time; its origin is the machine's, the same in all processes of one machine.
inline Nanoseconds now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace plait
