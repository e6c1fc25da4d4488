#include "plait/verify/prove.h"

#include <fmt/core.h>

#include <string>
#include <utility>

namespace plait {

Expected<VerifiedSchedule> prove(Schedule schedule, const VerifyOptions& options) {
  const std::string name = schedule.name;
  auto verified = verify(std::move(schedule), options);
  if (verified) return *std::move(verified);
  const Diagnostics& findings = verified.error();
  const Diagnostic& first = findings.front();
  return tl::unexpected<Error>(
      Error{ErrorCode::kCheckFailed,
            fmt::format("the schedule breaks a rule ({} found, plait check lists them): {}",
                        findings.size(), first.text()),
            name,
            {.rank = first.rank, .position = first.position}});
}

}  // namespace plait
