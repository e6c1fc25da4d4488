/// The shape of a schedule, inferred from the lists of a CSV by the rules of ir/forms/csv.h.
#pragma once

#include <string>

#include "plait/base/error.h"
#include "plait/ir/forms/csv.h"
#include "plait/ir/schedule.h"

namespace plait {

/// Sets placement, micro-batches and forward_only from the lists and `shape`.
/// Errors: no action; a stage or micro-batch that an action names and `shape` does not have; a
/// placement that does not parse.
/// Cost: O(actions + S).
Expected<void> infer_shape(Schedule& schedule, const std::string& file, const CsvShape& shape);

}  // namespace plait
