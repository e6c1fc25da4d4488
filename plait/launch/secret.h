/// The secret that the ranks of a job share, so that no other process can pass for one of them.
/// Knows no torch.
#pragma once

#include <string>

#include "plait/base/error.h"
#include "plait/launch/launch.h"

namespace plait {

/// The secret itself, or the name of a file that holds it.
inline constexpr const char* kSecretVariable = "PLAIT_SECRET";
inline constexpr const char* kSecretFileVariable = "PLAIT_SECRET_FILE";

/// Without the line end behind it; empty: the job has none. Errors (kInvalidInput), which never say
/// what it is: both variables are set; the file cannot be read, or others than its owner may read
/// it; it is shorter than 16 bytes.
Expected<std::string> job_secret(const Environment& environment);

}  // namespace plait
