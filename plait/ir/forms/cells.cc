#include "plait/ir/forms/cells.h"

#include <fmt/core.h>

#include "plait/ir/action_text.h"
#include "plait/ir/forms/csv_infer.h"

namespace plait {

Expected<Schedule> read_cells(const Cells& cells, const std::string& name, const CsvShape& shape) {
  if (cells.empty())
    return fail(ErrorCode::kInvalidInput, "there is no list, needed one per rank", name);
  Schedule schedule;
  schedule.name = name;
  for (std::size_t rank = 0; rank < cells.size(); ++rank) {
    std::vector<Action>& list = schedule.ranks.emplace_back();
    for (std::size_t i = 0; i < cells[rank].size(); ++i) {
      const std::string& cell = cells[rank][i];
      if (cell.empty()) {
        list.push_back({});
      } else if (const auto read = parse_action(cell, list); !read) {
        return tl::unexpected<Error>(
            Error{ErrorCode::kInvalidInput,
                  fmt::format("in '{}': {}", cell.substr(0, 60), read.error().message),
                  fmt::format("{}[{}][{}]", name, rank, i),
                  {.rank = static_cast<int>(rank), .position = static_cast<int>(list.size())}});
      }
    }
  }
  PLAIT_TRY_VOID(infer_shape(schedule, name, shape));
  return schedule;
}

}  // namespace plait
