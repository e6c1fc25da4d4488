/// A schedule by what the user calls it: a generator's name, or a file.
#pragma once

#include <string>

#include "plait/base/error.h"
#include "plait/ir/forms/csv.h"
#include "plait/ir/schedule.h"
#include "plait/schedule/generators.h"

namespace plait {

/// Reads `name` if it is a file, in any form (ir/text_forms.h), else generates it for `shape`. A
/// file is taken as it is; `of_file` gives what it does not say. Errors: those of either; a file
/// that cannot be read. Cost: O(actions).
Expected<Schedule> schedule_by_name_or_file(const std::string& name, const ScheduleShape& shape,
                                            const CsvShape& of_file = {});

}  // namespace plait
