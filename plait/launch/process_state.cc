#include "plait/launch/process_state.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace plait {
namespace {

/// Numbers of processes mean the same where this is the same.
std::string this_machine() {
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
  std::array<char, 64> space{};
  if (readlink("/proc/self/ns/pid", space.data(), space.size() - 1) < 0) space[0] = '\0';
  return fmt::format("{}/{}/", boot, space.data());
}

}  // namespace

std::string this_process() { return fmt::format("{}{}", this_machine(), getpid()); }

ProcessState state_of_process(const std::string& process) {
  const std::string machine = this_machine();
  if (!process.starts_with(machine)) return ProcessState::kElsewhere;
  const std::string number = process.substr(machine.size());
  if (number.empty() ||
      !std::all_of(number.begin(), number.end(), [](char one) { return one >= '0' && one <= '9'; }))
    return ProcessState::kElsewhere;
  return state_of_process(std::atoi(number.c_str()));
}

ProcessState state_of_process(int number) {
  std::ifstream stream(fmt::format("/proc/{}/stat", number));
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  // "4711 (any name, with brackets) S …".
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= text.size()) return ProcessState::kGone;
  const char state = text[name_end + 2];
  if (state == 'T' || state == 't') return ProcessState::kStopped;
  return state == 'Z' || state == 'X' ? ProcessState::kGone : ProcessState::kRuns;
}

}  // namespace plait
