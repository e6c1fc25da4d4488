#include "plait/schedule/generators.h"

#include <fmt/format.h>

#include <string>

#include "plait/schedule/shape.h"

namespace plait {

Expected<void> check_shape(std::string_view name, int ranks, int microbatches, int chunks,
                           int needed_chunks) {
  if (ranks < 1)
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{}: ranks is {}, needs at least 1", name, ranks));
  if (microbatches < 1) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{}: microbatches is {}, needs at least 1", name, microbatches));
  }
  if (chunks < 1 || (needed_chunks != 0 && chunks != needed_chunks)) {
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format(
            "{}: chunks is {}, needs {}", name, chunks,
            needed_chunks == 0 ? "at least 1" : fmt::format("exactly {} per rank", needed_chunks)));
  }
  return {};
}

Schedule empty_schedule(std::string_view name, Placement placement, int microbatches) {
  Schedule schedule;
  schedule.name = name;
  schedule.microbatches = microbatches;
  schedule.ranks.resize(static_cast<std::size_t>(placement.ranks));
  schedule.placement = std::move(placement);
  return schedule;
}

Expected<Schedule> generate(std::string_view name, int ranks, int microbatches, int chunks) {
  std::string known;
  for (const GeneratorInfo& info : kGenerators) {
    if (info.name == name) {
      return info.generate(ranks, microbatches, chunks == 0 ? info.default_chunks : chunks);
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", info.name);
  }
  return fail(
      ErrorCode::kInvalidInput,
      fmt::format("'{}' is neither a file nor a known schedule, needed one of: {}", name, known));
}

}  // namespace plait
