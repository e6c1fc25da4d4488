#include "plait/launch/pin.h"

#include <fmt/core.h>
#include <sched.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace plait {
namespace {

/// As the process was started: a thread that was pinned before sees its own cores only.
const std::vector<int>& cores_at_start() {
  static const std::vector<int> cores = [] {
    std::vector<int> found;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return found;
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(static_cast<std::size_t>(core), &set)) found.push_back(core);
    }
    return found;
  }();
  return cores;
}

}  // namespace

int allowed_cores() { return static_cast<int>(cores_at_start().size()); }

Expected<void> pin_to_cores(int rank, int threads) {
  const std::vector<int>& cores = cores_at_start();
  const int first = rank * threads;
  if (first + threads > allowed_cores()) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("rank {} of this machine needs cores {} to {}, found {}", rank, first,
                            first + threads - 1, cores.size()),
                "run.pin");
  }
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int i = first; i < first + threads; ++i)
    CPU_SET(static_cast<std::size_t>(cores[static_cast<std::size_t>(i)]), &set);
  if (sched_setaffinity(0, sizeof(set), &set) == 0) return {};
  return fail(ErrorCode::kRuntime,
              fmt::format("rank {} cannot be bound to cores: {}", rank, std::strerror(errno)),
              "run.pin");
}

}  // namespace plait
