#include <fmt/format.h>

#include <algorithm>

#include "plait/placement/placements.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/shape.h"

namespace plait {

Expected<Schedule> generate_dualpipe(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("dualpipe", shape, 1));
  const int ranks = shape.ranks;
  const int microbatches = shape.microbatches;
  if (ranks % 2 != 0) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("dualpipe: ranks is {}, needs an even number", ranks));
  }
  PLAIT_TRY_VOID(check_microbatches(
      "dualpipe", shape, microbatches % 2 == 0 && microbatches >= 2 * ranks,
      fmt::format("an even number of at least {}, twice the {} ranks", 2 * ranks, ranks)));
  PLAIT_TRY(Placement placement, place_bidirectional(ranks, ranks));
  Schedule schedule = empty_schedule("dualpipe", std::move(placement), microbatches);
  for (int rank = 0; rank < ranks; ++rank) {
    const bool upper = rank < ranks / 2;
    // Phase 0 is the copy whose stage 0 is nearer: copy 0 in the upper half, copy 1 in the lower.
    const int near = upper ? rank : ranks - 1 - rank;
    const int first_of_phase_0 = upper ? 0 : microbatches / 2;
    TwoPhaseWriter writer(schedule.ranks[static_cast<std::size_t>(rank)], {near, ranks - 1 - near},
                          {first_of_phase_0, microbatches / 2 - first_of_phase_0});
    write_dualpipe_rank(std::move(writer), ranks / 2, near, microbatches / 2);
  }
  return schedule;
}

}  // namespace plait
