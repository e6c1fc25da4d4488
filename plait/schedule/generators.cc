#include "plait/schedule/generators.h"

#include <fmt/core.h>

#include <string>

namespace plait {

Expected<Schedule> generate(std::string_view name, const ScheduleShape& shape) {
  std::string known;
  for (const GeneratorInfo& info : kGenerators) {
    if (info.name == name) {
      ScheduleShape full = shape;
      if (full.chunks == 0) full.chunks = info.default_chunks;
      return info.generate(full);
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", info.name);
  }
  return fail(
      ErrorCode::kInvalidInput,
      fmt::format("'{}' is neither a file nor a known schedule, needed one of: {}", name, known));
}

}  // namespace plait
