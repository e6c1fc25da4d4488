#include "plait/placement/placements.h"

#include <fmt/format.h>

#include <string>

namespace plait {
namespace {

template <typename RankOf>
Expected<Placement> place_stages(std::string_view name, int ranks, int stages, RankOf rank_of) {
  if (ranks < 1)
    return fail(ErrorCode::kInvalidInput, fmt::format("ranks is {}, needs at least 1", ranks));
  if (stages < 1 || stages % ranks != 0) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("stages is {}, must be a multiple of {} ranks for placement {}", stages,
                            ranks, name));
  }
  Placement placement{std::string(name), ranks, {}, 1};
  for (int stage = 0; stage < stages; ++stage) {
    placement.rank_of_stage.push_back(rank_of(stage / ranks, stage % ranks));
  }
  return placement;
}

}  // namespace

Expected<Placement> place_loop(int ranks, int stages) {
  return place_stages("loop", ranks, stages, [](int, int place) { return place; });
}

Expected<Placement> place_v(int ranks, int stages) {
  return place_stages("v", ranks, stages, [ranks](int leg, int place) {
    return leg % 2 == 0 ? place : ranks - 1 - place;
  });
}

Expected<Placement> place_bidirectional(int ranks, int stages) {
  PLAIT_TRY(Placement placement,
            place_stages("bidirectional", ranks, stages, [](int, int place) { return place; }));
  placement.copies = 2;
  for (int stage = 0; stage < stages; ++stage)
    placement.rank_of_stage.push_back(ranks - 1 - stage % ranks);
  return placement;
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
