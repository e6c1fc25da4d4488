/// Whether another process runs, is stopped or has ended, as far as this machine can tell.
#pragma once

#include <cstdint>
#include <string>

namespace plait {

enum class ProcessState : std::uint8_t {
  kRuns,
  kStopped,    ///< by SIGSTOP, Ctrl-Z or a debugger
  kGone,       ///< it has ended, also if nobody has waited for it yet
  kElsewhere,  ///< it is a process of another machine or container
};

/// Names this process among those of all machines: "<boot>/<namespace of processes>/<number>".
std::string this_process();
/// `process`: what this_process() returned there. kElsewhere for any other text.
ProcessState state_of_process(const std::string& process);
/// Of this machine: by its number.
ProcessState state_of_process(int number);

}  // namespace plait
