#include "plait/ir/placements.h"

#include <fmt/core.h>

#include <string>

#include "plait/ir/text_placement.h"

namespace plait {
namespace {

Expected<Placement> place_stages(std::string_view name, int ranks, int stages) {
  if (ranks < 1)
    return fail(ErrorCode::kInvalidInput, fmt::format("ranks is {}, needs at least 1", ranks));
  if (stages < 1 || stages % ranks != 0) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("stages is {}, must be a multiple of {} ranks for placement {}", stages,
                            ranks, name));
  }
  return *named_placement(name, ranks, stages);
}

}  // namespace

Expected<Placement> place_loop(int ranks, int stages) {
  return place_stages("loop", ranks, stages);
}

Expected<Placement> place_v(int ranks, int stages) { return place_stages("v", ranks, stages); }

Expected<Placement> place_bidirectional(int ranks, int stages) {
  return place_stages("bidirectional", ranks, stages);
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
