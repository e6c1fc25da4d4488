#include <fmt/core.h>

#include "plait/ir/placements.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/shape_checks.h"
#include "plait/schedule/two_phase_writer.h"
#include "plait/schedule/zbv.h"

namespace plait {
namespace {

void write_rank(TwoPhaseWriter writer, int ranks, int rank, int microbatches) {
  const int below = ranks - 1 - rank;
  const int pairs = 2 * (microbatches - 3 * ranks + 1) + 1 + 2 * rank;
  const int late_pairs = microbatches - ranks - pairs / 2 - 1;
  const int split = below + rank + late_pairs;
  writer.reserve(4 * static_cast<std::size_t>(microbatches) +
                 static_cast<std::size_t>(below + pairs + late_pairs) +
                 static_cast<std::size_t>(split));
  // 1 to 3. Warm-up.
  for (int i = 0; i < 2 * below; ++i) writer.forward(0);
  for (int i = 0; i <= rank; ++i) {
    writer.forward(0);
    writer.forward(1);
  }
  for (int i = 0; i <= rank; ++i) writer.forward(0);
  // 4. The first backwards.
  for (int i = 0; i < below; ++i) {
    writer.pair_with_input(1, 1);
    writer.forward(0);
    writer.backward_weight();
  }
  // 5. Pairs of one chunk; the last ones put W off.
  for (int i = 0; i < pairs; ++i) {
    const int phase = i % 2 == 0 ? 1 : 0;
    i >= pairs - rank ? writer.pair_with_input(phase, phase) : writer.pair(phase, phase);
  }
  // 6. No forwards of the first chunk are left.
  for (int i = 0; i < late_pairs; ++i) {
    writer.backward(0);
    writer.pair_with_input(1, 1);
  }
  // 7 to 9. Drain.
  for (int i = 0; i <= rank; ++i) {
    writer.backward(0);
    writer.backward(1);
  }
  for (int i = 0; i < 1 + 2 * below; ++i) {
    if (i % 2 == 0) {
      writer.backward(0);
    } else {
      writer.backward_weight();
      writer.backward_weight();
    }
  }
  while (writer.weights_left()) writer.backward_weight();
}

}  // namespace

Expected<Schedule> generate_stp(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("stp", shape, 2));
  const int ranks = shape.ranks;
  PLAIT_TRY_VOID(
      check_microbatches("stp", shape, shape.any_m || shape.microbatches >= 3 * ranks,
                         fmt::format("at least {}, three times the {} ranks", 3 * ranks, ranks)));
  // Cutting the order for 3P would leave it idle twice as long: there is no steady part for pairs.
  if (shape.microbatches < 3 * ranks) return zbv_of_any_m("stp", shape);
  PLAIT_TRY(Placement placement, place_v(ranks, 2 * ranks));
  Schedule schedule = empty_schedule("stp", std::move(placement), shape.microbatches);
  for (int rank = 0; rank < ranks; ++rank) {
    TwoPhaseWriter writer(schedule.ranks[static_cast<std::size_t>(rank)],
                          {rank, 2 * ranks - 1 - rank});
    write_rank(std::move(writer), ranks, rank, shape.microbatches);
  }
  return schedule;
}

}  // namespace plait
