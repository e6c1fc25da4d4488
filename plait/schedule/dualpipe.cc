#include <fmt/core.h>

#include <optional>

#include "plait/ir/placements.h"
#include "plait/schedule/dualpipe_steps.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/greedy/best_order.h"
#include "plait/schedule/shape_checks.h"
#include "plait/schedule/two_phase_writer.h"

namespace plait {

Expected<Schedule> generate_dualpipe(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("dualpipe", shape, 1));
  const int ranks = shape.ranks;
  const int microbatches = shape.microbatches;
  if (ranks % 2 != 0) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("dualpipe: ranks is {}, needs an even number: the middle rank would "
                            "hold one stage twice",
                            ranks));
  }
  PLAIT_TRY_VOID(check_microbatches(
      "dualpipe", shape, shape.any_m || (microbatches % 2 == 0 && microbatches >= 2 * ranks),
      fmt::format("an even number of at least {}, twice the {} ranks", 2 * ranks, ranks)));
  PLAIT_TRY(Placement placement, place_bidirectional(ranks, ranks));
  // Cutting the order for 2P would leave it idle longer: there is no steady part for pairs.
  if (microbatches < 2 * ranks) {
    return best_greedy_order("dualpipe", std::move(placement), microbatches,
                             {ranks + 1, ranks, ranks + 2}, ranks / 2 - 1);
  }
  const int each = (microbatches + 1) / 2;  // of an odd M the second copy has one less
  Schedule schedule = empty_schedule("dualpipe", std::move(placement), microbatches);
  for (int rank = 0; rank < ranks; ++rank) {
    const bool upper = rank < ranks / 2;
    // Phase 0 is the copy whose stage 0 is nearer: copy 0 in the upper half, copy 1 in the lower.
    const int near = upper ? rank : ranks - 1 - rank;
    const int first_of_phase_0 = upper ? 0 : each;
    std::optional<int> less;
    if (microbatches % 2 != 0) less = upper ? 1 : 0;
    TwoPhaseWriter writer(schedule.ranks[static_cast<std::size_t>(rank)], {near, ranks - 1 - near},
                          {first_of_phase_0, each - first_of_phase_0});
    write_dualpipe_rank(std::move(writer), ranks / 2, near, each, less);
  }
  return schedule;
}

}  // namespace plait
