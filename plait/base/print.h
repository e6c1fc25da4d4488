/// Numbers and texts as messages, tables and pictures print them.
#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>

#include "plait/base/units.h"

namespace plait {

/// "12.5 %" of 0.125.
inline std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

/// "1.5" of 1,500,000 bytes.
inline std::string megabytes(Bytes bytes) {
  return fmt::format("{:.1f}", static_cast<double>(bytes) / 1e6);
}

/// Without the line's end.
inline std::string_view first_line(std::string_view text) {
  return text.substr(0, text.find('\n'));
}

}  // namespace plait
