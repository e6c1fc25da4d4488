#include "plait/timeline/compute_ends.h"

namespace plait {

ComputeEnds::ComputeEnds(const Timeline& timeline)
    : ends_(static_cast<std::size_t>(timeline.ranks)) {
  for (const TimelineEvent& event : timeline.events) {
    const auto index = static_cast<std::size_t>(event.instruction);
    if (event.lane != Lane::kCompute || event.instruction < 0 || index >= timeline.events.size())
      continue;
    auto& ends = ends_[static_cast<std::size_t>(event.rank)];
    if (index >= ends.size()) ends.resize(index + 1);
    ends[index] = event.end;
  }
}

std::optional<Nanoseconds> ComputeEnds::find(int rank, int instruction) const {
  if (rank < 0 || instruction < 0) return std::nullopt;
  const auto& ends = ends_[static_cast<std::size_t>(rank)];
  const auto index = static_cast<std::size_t>(instruction);
  return index < ends.size() ? ends[index] : std::nullopt;
}

}  // namespace plait
