/// A job file with the flags that win over it, as train and profile take them.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/job/job_config.h"

namespace plait::tools {

struct JobArguments {
  std::string job;
  std::vector<std::string> settings;
  std::string ranks, microbatches, schedule;

  static std::shared_ptr<JobArguments> add_to(CLI::App& command);
  /// What the flags say; a command's own shortcuts go behind it.
  Expected<std::vector<Override>> overrides() const;
  Expected<JobConfig> read() const;
};

/// A shortcut flag as an override, if it was given.
void add_shortcut(std::vector<Override>& overrides, const char* flag, const char* key,
                  const std::string& value);

}  // namespace plait::tools
