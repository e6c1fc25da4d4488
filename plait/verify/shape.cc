#include <fmt/format.h>

#include "plait/verify/rules.h"

namespace plait::verify_detail {

void check_shape_rule(const Schedule& schedule, Diagnostics& findings) {
  const Placement& placement = schedule.placement;
  if (placement.ranks < 1 || schedule.ranks.size() != static_cast<std::size_t>(placement.ranks)) {
    add(findings, "shape", {},
        fmt::format("the schedule has {} lists, its placement has {} ranks", schedule.ranks.size(),
                    placement.ranks));
  }
  if (placement.stages() < 1) add(findings, "shape", {}, "the placement has no stage");
  if (schedule.microbatches < 1) {
    add(findings, "shape", {},
        fmt::format("micro-batches is {}, needs at least 1", schedule.microbatches));
  }
  for (int stage = 0; stage < placement.stages(); ++stage) {
    if (placement.rank_of(stage) < 0 || placement.rank_of(stage) >= placement.ranks) {
      add(findings, "shape", {},
          fmt::format("stage {} is on rank {}, needs one below {}", stage, placement.rank_of(stage),
                      placement.ranks));
    }
  }
}

}  // namespace plait::verify_detail
