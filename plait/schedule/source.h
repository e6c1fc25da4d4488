/// A schedule by what the user calls it: a generator's name, or a file. The one place that decides.
#pragma once

#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/forms/csv.h"
#include "plait/ir/schedule.h"
#include "plait/schedule/generators.h"

namespace plait {

/// What `name` is: a generator, or null for a file. A file, a pipe or a device of that name is
/// read; a folder hides no name; "-" is standard input. Errors: neither; a folder that is no name.
Expected<const GeneratorInfo*> find_schedule(const std::string& name);

/// Reads `name` if it is a file, in any form (ir/forms/text_forms.h), else generates it for
/// `shape`. A file is taken as it is; `of_file` gives what it does not say; `notes` gets what
/// read_schedule() says of it. Errors: those of find_schedule(), of the file or of the generator.
/// Cost: O(actions).
Expected<Schedule> schedule_by_name_or_file(const std::string& name, const ScheduleShape& shape,
                                            const CsvShape& of_file = {},
                                            std::vector<std::string>* notes = nullptr);

}  // namespace plait
