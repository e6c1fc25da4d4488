/// What a CSV does not say, inferred from its lists (ir/csv.h says how).
#pragma once

#include <string>

#include "plait/base/error.h"
#include "plait/ir/forms/csv.h"
#include "plait/ir/schedule.h"

namespace plait {

/// Sets placement, micro-batches and forward_only from the lists and `shape`.
/// Errors: no action; a number that cannot be among so many; a placement that does not parse.
/// Cost: O(actions + S).
Expected<void> infer_shape(Schedule& schedule, const std::string& file, const CsvShape& shape);

}  // namespace plait
