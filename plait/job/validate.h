/// The ranges of job.toml's values, and what is not built yet.
#pragma once

#include "plait/base/error.h"
#include "plait/job/job_config.h"

namespace plait {

/// `where` of an error is the key, "section.key".
Expected<void> validate_job(const JobConfig& job);

/// The text as a TOML string in quotes.
std::string quote_toml(const std::string& text);

}  // namespace plait
