#include <fmt/core.h>

#include "plait/ir/placements.h"
#include "plait/schedule/dualpipe_steps.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/shape_checks.h"
#include "plait/schedule/two_phase_writer.h"
#include "plait/schedule/zbv.h"

namespace plait {

Expected<Schedule> generate_dualpipe_v(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("dualpipe-v", shape, 2));
  const int ranks = shape.ranks;
  PLAIT_TRY_VOID(
      check_microbatches("dualpipe-v", shape, shape.any_m || shape.microbatches >= 2 * ranks,
                         fmt::format("at least {}, twice the {} ranks", 2 * ranks, ranks)));
  // Cutting the order for 2P would leave it idle twice as long: there is no steady part for pairs.
  if (shape.microbatches < 2 * ranks) return zbv_of_any_m("dualpipe-v", shape);
  PLAIT_TRY(Placement placement, place_v(ranks, 2 * ranks));
  Schedule schedule = empty_schedule("dualpipe-v", std::move(placement), shape.microbatches);
  for (int rank = 0; rank < ranks; ++rank) {
    TwoPhaseWriter writer(schedule.ranks[static_cast<std::size_t>(rank)],
                          {rank, 2 * ranks - 1 - rank});
    write_dualpipe_rank(std::move(writer), ranks, rank, shape.microbatches);
  }
  return schedule;
}

}  // namespace plait
