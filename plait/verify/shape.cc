#include <fmt/core.h>

#include <algorithm>

#include "plait/verify/rules.h"

namespace plait::verify_detail {
namespace {

void check_placement_table(const Placement& placement, Diagnostics& findings) {
  for (std::size_t i = 0; i < placement.rank_of_stage.size(); ++i) {
    const int rank = placement.rank_of_stage[i];
    if (rank >= 0 && rank < placement.ranks) continue;
    add(findings, "shape", {},
        fmt::format("stage {} is on rank {}, needs one below {}",
                    i % static_cast<std::size_t>(placement.stages()), rank, placement.ranks));
  }
}

void check_caps(const Schedule& schedule, const VerifyOptions& options, Diagnostics& findings) {
  const std::size_t caps = options.max_activations.size();
  if (caps > 1 && caps != schedule.ranks.size()) {
    add(findings, "shape", {},
        fmt::format("{} caps are given for {} ranks, needs one for all or one for each", caps,
                    schedule.ranks.size()));
  }
}

/// Finds schedules with far fewer actions than S * M. Nobody would read the list of what is
/// missing, and the tables of the other rules, S * M cells, may not fit memory.
void check_size(const Schedule& schedule, Diagnostics& findings) {
  std::size_t actions = 0;
  for (const auto& list : schedule.ranks) actions += list.size();
  const auto cells = static_cast<std::size_t>(schedule.placement.stages()) *
                     static_cast<std::size_t>(schedule.microbatches);
  constexpr std::size_t kSmall = std::size_t{1} << 20;
  if (cells > kSmall && cells / 16 > actions) {
    add(findings, "shape", {},
        fmt::format("the schedule holds {} actions, its {} stages and {} micro-batches need at "
                    "least {}",
                    actions, schedule.placement.stages(), schedule.microbatches, cells));
  }
}

}  // namespace

void check_shape(const Schedule& schedule, const VerifyOptions& options, Diagnostics& findings) {
  const Placement& placement = schedule.placement;
  if (placement.ranks < 1 || schedule.ranks.size() != static_cast<std::size_t>(placement.ranks)) {
    add(findings, "shape", {},
        fmt::format("the schedule has {} lists, its placement has {} ranks", schedule.ranks.size(),
                    placement.ranks));
  }
  if (schedule.microbatches < 1) {
    add(findings, "shape", {},
        fmt::format("micro-batches is {}, needs at least 1", schedule.microbatches));
  }
  const std::size_t entries = placement.rank_of_stage.size();
  if (placement.copies < 1 || entries % static_cast<std::size_t>(placement.copies) != 0) {
    add(findings, "shape", {},
        fmt::format("the placement has {} entries for {} copies of the stages", entries,
                    placement.copies));
  } else if (entries == 0) {
    add(findings, "shape", {}, "the placement has no stage");
  } else {
    check_placement_table(placement, findings);
  }
  check_caps(schedule, options, findings);
  if (findings.empty()) check_size(schedule, findings);
}

}  // namespace plait::verify_detail
