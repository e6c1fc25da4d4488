/// Schedules from lists of cells, as a program holds them: a CSV without its text.
#pragma once

#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/forms/csv.h"
#include "plait/ir/schedule.h"

namespace plait {

/// By rank; each cell is an action, or empty for an idle slot.
using Cells = std::vector<std::vector<std::string>>;

/// What read_csv() gives of the same cells, named `name`. An empty list is a rank without actions.
/// Errors name `name[rank][cell]`. Cost: O(characters).
Expected<Schedule> read_cells(const Cells& cells, const std::string& name, const CsvShape& shape);

}  // namespace plait
