/// A schedule by what the user calls it: a generator's name, or a file.
#pragma once

#include <string>

#include "plait/base/error.h"
#include "plait/ir/csv.h"
#include "plait/ir/schedule.h"

namespace plait {

/// Reads `name` as CSV if it is a file, else generates it. A file is taken as it is; `shape` may
/// override what it does not say.
Expected<Schedule> schedule_by_name_or_file(const std::string& name, int ranks, int microbatches,
                                            int chunks, const CsvShape& shape = {});

/// True if the schedule holds communication actions.
bool is_lowered(const Schedule& schedule);

}  // namespace plait
