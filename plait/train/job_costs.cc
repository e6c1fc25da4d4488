#include "plait/train/job_costs.h"

#include <fmt/core.h>

namespace plait {

bool has_whole_actions(const TrainPlan& plan) {
  return !plan.has_exchanges() && plan.grid().columns() == 1;
}

Expected<std::string> print_profile(const ProfiledRun& run, const CostProfile& profile, int steps) {
  PLAIT_TRY(CostSettings settings, profile.settings());
  const StageCost parameters{run.parameter_bytes, true, "job"};
  settings.of(StageKey::kParameterBytes) = settings.of(StageKey::kGradientBytes) = parameters;
  return fmt::format("# {}: means of {} steps\n{}", run.title, steps, print_costs(settings));
}

}  // namespace plait
