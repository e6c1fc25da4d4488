#include "plait/base/error.h"

#include <fmt/core.h>

namespace plait {

std::string ErrorPlace::text() const {
  if (!argument.empty()) return "--" + argument;
  std::string text = file;
  if (line > 0) text += fmt::format(":{}", line);
  if (column > 0) text += fmt::format(":{}", column);
  if (key.starts_with('/')) text += ":" + key;
  if (line > 0 || rank < 0) return text;
  text += fmt::format("{}rank {}", text.empty() ? "" : ": ", rank);
  if (position >= 0) text += fmt::format(" position {}", position);
  return text;
}

}  // namespace plait
