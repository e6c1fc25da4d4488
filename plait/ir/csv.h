/// Schedules as CSV, the form torch.distributed.pipelining reads and writes.
///
/// One row per rank in rank order, no header, one cell per action, an empty cell is an idle slot.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait {

/// What a CSV does not say. Where a field is absent it is inferred from the actions.
struct CsvShape {
  std::optional<int> ranks;
  std::optional<int> stages;
  std::optional<int> microbatches;
  std::optional<Placement> placement;
};

/// Reads all of `text`; lines end in \n or \r\n. Errors name `file`, line and column.
///
/// The placement is inferred from where a stage's compute actions stand, and named if it is `loop`
/// or `v`. A stage nobody computes is put on rank 0 for the proof to complain of. Cost: O(text).
Expected<Schedule> read_csv(std::string_view text, const std::string& file, const CsvShape& shape);

/// Lines end in \n. read_csv of it gives the same lists. Cost: O(actions).
std::string print_csv(const Schedule& schedule);

}  // namespace plait
