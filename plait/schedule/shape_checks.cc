#include "plait/schedule/shape_checks.h"

#include <fmt/core.h>

#include <cstdint>

namespace plait {

Expected<void> check_shape(std::string_view name, const ScheduleShape& shape, int needed_chunks) {
  const auto refuse = [&](std::string_view what, int value, std::string_view needs) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{}: {} is {}, needs {}", name, what, value, needs));
  };
  if (shape.ranks < 1) return refuse("ranks", shape.ranks, "at least 1");
  if (shape.microbatches < 1) return refuse("microbatches", shape.microbatches, "at least 1");
  if (shape.chunks < 1) return refuse("chunks", shape.chunks, "at least 1");
  if (needed_chunks != 0 && shape.chunks != needed_chunks) {
    return refuse("chunks", shape.chunks, fmt::format("exactly {} per rank", needed_chunks));
  }
  constexpr std::int64_t kMaxStages = 1 << 20;
  const std::int64_t stages = std::int64_t{shape.ranks} * shape.chunks;
  if (stages > kMaxStages) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{}: {} ranks of {} chunks are {} stages, needs at most {}", name,
                            shape.ranks, shape.chunks, stages, kMaxStages));
  }
  constexpr std::int64_t kMaxCells = std::int64_t{1} << 32;
  if (stages * shape.microbatches > kMaxCells) {
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("{}: {} stages of {} micro-batches are {} cells, needs at most {}", name,
                    stages, shape.microbatches, stages * shape.microbatches, kMaxCells));
  }
  return {};
}

Expected<void> check_microbatches(std::string_view name, const ScheduleShape& shape, bool holds,
                                  std::string_view needs) {
  if (holds) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("{}: microbatches is {}, needs {}", name, shape.microbatches, needs));
}

}  // namespace plait
