/// What a job that goes on from a checkpoint has changed since the checkpoint was written.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/job/job_config.h"

namespace plait {

/// False of what says where and in which order the same numbers are computed: schedule, ranks,
/// pairs, recomputation, threads, comm, folders and the like. `key` is "section.key". A key that is
/// not known to be free of it changes results.
bool changes_results(std::string_view key);

struct KeyChange {
  std::string key;            ///< "section.key"
  std::string before, after;  ///< as TOML

  /// "parallel.schedule is "zbv", was "1f1b""
  std::string text() const;
};
/// In order of job_keys().
std::vector<KeyChange> compare_jobs(const JobConfig& before, const JobConfig& after);

/// One line for each key that has changed. Errors (kInvalidInput): all keys whose change changes
/// results and that no flag of this run's gave.
Expected<std::vector<std::string>> check_resumed_job(const JobConfig& before,
                                                     const JobConfig& after);

}  // namespace plait
