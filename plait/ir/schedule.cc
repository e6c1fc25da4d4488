#include "plait/ir/schedule.h"

#include <algorithm>
#include <utility>

namespace plait {

std::vector<int> Placement::stages_of(int rank) const {
  std::vector<int> stages_here;
  for (int stage = 0; stage < stages(); ++stage) {
    bool here = false;
    for (int copy = 0; copy < copies; ++copy) here = here || rank_of(stage, copy) == rank;
    if (here) stages_here.push_back(stage);
  }
  return stages_here;
}

Schedule empty_schedule(std::string_view name, Placement placement, int microbatches) {
  Schedule schedule;
  schedule.name = name;
  schedule.microbatches = microbatches;
  schedule.ranks.resize(static_cast<std::size_t>(placement.ranks));
  schedule.placement = std::move(placement);
  return schedule;
}

bool is_lowered(const Schedule& schedule) {
  const Placement& placement = schedule.placement;
  bool crosses = false;
  for (int copy = 0; copy < placement.copies; ++copy) {
    for (int stage = 1; stage < placement.stages(); ++stage)
      crosses = crosses || placement.rank_of(stage, copy) != placement.rank_of(stage - 1, copy);
  }
  return !crosses || holds(schedule, is_communication);
}

}  // namespace plait
