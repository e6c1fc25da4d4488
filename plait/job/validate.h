/// The ranges of job.toml's values, and what is not built yet.
#pragma once

#include <cstdint>
#include <string>

#include "plait/base/error.h"
#include "plait/job/job_config.h"

namespace plait {

/// `where` of an error is the key, "section.key".
Expected<void> validate_job(const JobConfig& job);

/// Whether the job has anything to validate on.
bool has_validation(const DataConfig& data);

/// The least value that a key of one integer may have.
std::int64_t least_value(const KeyInfo& key);

/// The text as a TOML string in quotes.
std::string quote_toml(const std::string& text);

}  // namespace plait
