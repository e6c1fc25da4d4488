/// The proof for callers that need one error.
#pragma once

#include "plait/base/error.h"
#include "plait/verify/verify.h"

namespace plait {

/// The schedule as proven. Errors (kCheckFailed): the first of its violations, and how many there
/// are; verify() has them all. Cost and thread safety: verify()'s.
Expected<VerifiedSchedule> prove(Schedule schedule, const VerifyOptions& options = {});

}  // namespace plait
