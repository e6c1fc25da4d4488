#include "tools/plait/job_arguments.h"

#include <fmt/core.h>

namespace plait::tools {

std::shared_ptr<JobArguments> JobArguments::add_to(CLI::App& command) {
  auto arguments = std::make_shared<JobArguments>();
  command.add_option("job", arguments->job, "the job file (docs/job.md)")->required();
  command.add_option("--set", arguments->settings, "section.key=value, wins over the file")
      ->take_all()
      ->allow_extra_args(false);
  command.add_option("--ranks", arguments->ranks, "parallel.pipeline");
  command.add_option("--microbatches", arguments->microbatches, "parallel.microbatches");
  command.add_option("--schedule", arguments->schedule, "parallel.schedule");
  return arguments;
}

Expected<std::vector<Override>> JobArguments::overrides() const {
  std::vector<Override> overrides;
  for (const std::string& setting : settings) {
    const std::size_t equals = setting.find('=');
    if (equals == std::string::npos) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("'{}' has no '=', needed section.key=value", setting), "--set");
    }
    overrides.push_back(
        {setting.substr(0, equals), setting.substr(equals + 1), "--set " + setting});
  }
  add_shortcut(overrides, "--ranks", "parallel.pipeline", ranks);
  add_shortcut(overrides, "--microbatches", "parallel.microbatches", microbatches);
  add_shortcut(overrides, "--schedule", "parallel.schedule", schedule);
  return overrides;
}

Expected<JobConfig> JobArguments::read() const {
  PLAIT_TRY(const std::vector<Override> given, overrides());
  return read_job_config(job, given);
}

void add_shortcut(std::vector<Override>& overrides, const char* flag, const char* key,
                  const std::string& value) {
  if (!value.empty()) overrides.push_back({key, value, fmt::format("{} {}", flag, value)});
}

}  // namespace plait::tools
