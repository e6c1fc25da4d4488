#include "plait/train/job_costs.h"

#include <fmt/core.h>

#include <cstdint>

namespace plait {

bool has_whole_actions(const JobPlan& plan) {
  return !plan.has_exchanges() && plan.grid().columns() == 1;
}

Expected<std::string> print_profile(const JobPlan& plan, const CostProfile& profile, int steps) {
  PLAIT_TRY(CostSettings settings, profile.settings());
  StageCost parameters{{}, true, "job"};
  for (const StagePart& part : plan.parts)
    parameters.values.push_back(std::int64_t{4} * parameter_count(plan.job.model, part));
  settings.of(StageKey::kParameterBytes) = settings.of(StageKey::kGradientBytes) = parameters;
  return fmt::format("# {} under {}, {} ranks, {} micro-batches: means of {} steps\n{}",
                     plan.job.name, plan.job.parallel.schedule, plan.placement().ranks,
                     plan.microbatches(), steps, print_costs(settings));
}

}  // namespace plait
