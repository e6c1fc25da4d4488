#include "plait/ir/placements.h"

#include <fmt/core.h>

#include <string>

namespace plait {
namespace {

/// Checks the numbers, and fills the table by rank_of(stage, copy).
template <typename RankOf>
Expected<Placement> place_stages(std::string_view name, int ranks, int stages, int copies,
                                 RankOf rank_of) {
  if (ranks < 1)
    return fail(ErrorCode::kInvalidInput, fmt::format("ranks is {}, needs at least 1", ranks));
  if (stages < 1 || stages % ranks != 0) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("stages is {}, must be a multiple of {} ranks for placement {}", stages,
                            ranks, name));
  }
  Placement placement{std::string(name), ranks, {}, copies};
  placement.rank_of_stage.reserve(static_cast<std::size_t>(copies) *
                                  static_cast<std::size_t>(stages));
  for (int copy = 0; copy < copies; ++copy) {
    for (int stage = 0; stage < stages; ++stage)
      placement.rank_of_stage.push_back(rank_of(stage, copy));
  }
  return placement;
}

}  // namespace

Expected<Placement> place_loop(int ranks, int stages) {
  return place_stages("loop", ranks, stages, 1,
                      [ranks](int stage, int /*copy*/) { return stage % ranks; });
}

Expected<Placement> place_v(int ranks, int stages) {
  return place_stages("v", ranks, stages, 1, [ranks](int stage, int /*copy*/) {
    const bool up = stage / ranks % 2 == 1;
    return up ? ranks - 1 - stage % ranks : stage % ranks;
  });
}

Expected<Placement> place_bidirectional(int ranks, int stages) {
  return place_stages("bidirectional", ranks, stages, 2, [ranks](int stage, int copy) {
    return copy == 1 ? ranks - 1 - stage % ranks : stage % ranks;
  });
}

Expected<Placement> place(std::string_view name, int ranks, int stages) {
  std::string known;
  for (const PlacementInfo& info : kPlacements) {
    if (info.name == name) return info.make(ranks, stages);
    known += fmt::format("{}{}", known.empty() ? "" : ", ", info.name);
  }
  return fail(ErrorCode::kInvalidInput,
              fmt::format("placement '{}' is not known, needed one of: {}", name, known));
}

}  // namespace plait
