#include <cstddef>
#include <cstdint>
#include <string>

#include "plait/base/check.h"
#include "plait/job/job_config.h"

/// Any text is a job or an error; a job prints to what reads back to the same. What follows the
/// first zero byte is given as --set run.folder=….
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  const std::size_t zero = input.find('\0');
  const std::string text = input.substr(0, zero);
  std::vector<plait::Override> overrides;
  if (zero != std::string::npos)
    overrides.push_back({"run.folder", input.substr(zero + 1), "--set"});
  const plait::Expected<plait::JobConfig> job =
      plait::parse_job_config(text, "job.toml", overrides);
  if (!job) return 0;
  const auto again = plait::parse_job_config(plait::print_job_config(*job), "job.toml", {});
  PLAIT_CHECK(again && *again == *job, "print and read are not inverse");
  return 0;
}
