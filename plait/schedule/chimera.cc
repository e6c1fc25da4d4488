#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "plait/placement/placements.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/shape.h"

namespace plait {
namespace {

struct Slot {
  std::int64_t time;
  Action action;
};

}  // namespace

Expected<Schedule> generate_chimera(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("chimera", shape, 1));
  const int ranks = shape.ranks;
  if (ranks % 2 != 0) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("chimera: ranks is {}, needs an even number", ranks));
  }
  PLAIT_TRY_VOID(check_microbatches("chimera", shape, shape.microbatches % ranks == 0,
                                    fmt::format("a multiple of the {} ranks", ranks)));
  PLAIT_TRY(Placement placement, place_bidirectional(ranks, ranks));
  Schedule schedule = empty_schedule("chimera", std::move(placement), shape.microbatches);
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<Slot> slots;
    for (int copy = 0; copy < 2; ++copy) {
      const int stage = copy == 0 ? rank : ranks - 1 - rank;
      for (int index = 0; index < shape.microbatches / 2; ++index) {
        const int mb = copy * (shape.microbatches / 2) + index;
        const std::int64_t unit = index / (ranks / 2);
        const std::int64_t at = 2 * (ranks * unit + index % (ranks / 2));
        slots.push_back({at + stage, compute(ActionType::kForward, stage, mb)});
        slots.push_back(
            {at + ranks + ranks - 1 - stage, compute(ActionType::kBackward, stage, mb)});
      }
    }
    std::sort(slots.begin(), slots.end(),
              [](const Slot& a, const Slot& b) { return a.time < b.time; });
    for (const Slot& slot : slots)
      schedule.ranks[static_cast<std::size_t>(rank)].push_back(slot.action);
  }
  return schedule;
}

}  // namespace plait
