#include <fmt/format.h>

#include <array>
#include <cstdint>

#include "plait/placement/placements.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/shape.h"

namespace plait {
namespace {

/// One copy's forwards on a rank, or its backwards, in the order of their unit slots.
struct Lane {
  ActionType type;
  int stage;
  int first_slot;
  int first_microbatch;
  int microbatches;
  int done = 0;

  std::int64_t slot(int ranks) const {
    const int in_unit = ranks / 2;
    return first_slot + std::int64_t{2} * ranks * (done / in_unit) +
           std::int64_t{2} * (done % in_unit);
  }
};

/// Merges the four lanes of a rank. No two are ever in one slot.
void write_rank(std::vector<Action>& list, const ScheduleShape& shape, int rank) {
  const int ranks = shape.ranks;
  const int of_copy_0 = (shape.microbatches + 1) / 2;  // as Schedule::copy_of shares them out
  std::array<Lane, 4> lanes{};
  std::size_t lane = 0;
  for (int copy = 0; copy < 2; ++copy) {
    const int stage = copy == 0 ? rank : ranks - 1 - rank;
    const int first = copy == 0 ? 0 : of_copy_0;
    const int count = copy == 0 ? of_copy_0 : shape.microbatches - of_copy_0;
    lanes[lane++] = {ActionType::kForward, stage, stage, first, count};
    lanes[lane++] = {ActionType::kBackward, stage, 2 * ranks - 1 - stage, first, count};
  }
  list.reserve(2 * static_cast<std::size_t>(shape.microbatches));
  while (list.size() < 2 * static_cast<std::size_t>(shape.microbatches)) {
    Lane* next = nullptr;
    for (Lane& candidate : lanes) {
      if (candidate.done == candidate.microbatches) continue;
      if (next == nullptr || candidate.slot(ranks) < next->slot(ranks)) next = &candidate;
    }
    list.push_back(compute(next->type, next->stage, next->first_microbatch + next->done));
    ++next->done;
  }
}

}  // namespace

Expected<Schedule> generate_chimera(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("chimera", shape, 1));
  const int ranks = shape.ranks;
  if (ranks % 2 != 0) {
    return fail(ErrorCode::kInvalidInput, fmt::format("chimera: ranks is {}, needs an even number: "
                                                      "the middle rank would hold one stage twice",
                                                      ranks));
  }
  PLAIT_TRY_VOID(check_microbatches("chimera", shape,
                                    shape.any_m || shape.microbatches % ranks == 0,
                                    fmt::format("a multiple of the {} ranks", ranks)));
  PLAIT_TRY(Placement placement, place_bidirectional(ranks, ranks));
  Schedule schedule = empty_schedule("chimera", std::move(placement), shape.microbatches);
  for (int rank = 0; rank < ranks; ++rank)
    write_rank(schedule.ranks[static_cast<std::size_t>(rank)], shape, rank);
  return schedule;
}

}  // namespace plait
