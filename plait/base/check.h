/// PLAIT_CHECK: a condition that only a bug of ours can break. Prints the place and aborts.
#pragma once

#include <string_view>

namespace plait {

/// Writes "file:line: check failed: condition: message" to stderr and aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view message);

}  // namespace plait

/// PLAIT_CHECK(slot < slots, "slot past the end"); on in release builds too.
#define PLAIT_CHECK(condition, message)                               \
  do {                                                                \
    if (!(condition)) [[unlikely]]                                    \
      ::plait::check_failed(__FILE__, __LINE__, #condition, message); \
  } while (false)
