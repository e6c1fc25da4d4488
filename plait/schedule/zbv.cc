#include <algorithm>

#include "plait/ir/placements.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/greedy/best_order.h"
#include "plait/schedule/shape_checks.h"
#include "plait/schedule/two_phase_writer.h"
#include "plait/schedule/zbv.h"

namespace plait {
namespace {

void write_rank(TwoPhaseWriter writer, int ranks, int rank, int microbatches) {
  const int below = ranks - rank;
  writer.idle(rank);
  for (int i = 0; i < 2 * below - 1; ++i) writer.forward(0);
  for (int i = 0; i < rank; ++i) {
    writer.forward(1);
    writer.forward(0);
  }
  const auto backward_up = [&] {
    writer.forward(1);
    writer.backward_input(1);
    writer.backward_weight_of(1);
  };
  for (int i = 0; i < below; ++i) backward_up();
  while (writer.forwards(1) < writer.forwards(0) || writer.forwards(0) < microbatches) {
    if (writer.forwards(0) < microbatches) writer.forward(0);
    writer.backward_input(0);
    writer.backward_weight_of(0);
    backward_up();
  }
  for (int i = 0; i < rank; ++i) {
    writer.backward_input(0);
    writer.backward_input(1);
  }
  for (int i = 0; i < below; ++i) {
    writer.backward_input(0);
    writer.backward_weight_of(0);
  }
  for (int i = 0; i < rank; ++i) writer.backward_weight_of(1);
  for (int i = 0; i < rank; ++i) writer.backward_weight_of(0);
}

}  // namespace

Expected<Schedule> generate_zbv(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("zbv", shape, 2));
  const int ranks = shape.ranks;
  // Below 2P-1 micro-batches torch writes the order for 2P-1 and blanks the surplus, which
  // leaves it idle up to twice as long.
  const int written = std::max(2 * ranks - 1, shape.microbatches);
  PLAIT_TRY(Placement placement, place_v(ranks, 2 * ranks));
  if (shape.any_m && shape.microbatches < written) {
    return best_greedy_order("zbv", std::move(placement), shape.microbatches, {2 * ranks},
                             ranks - 1);
  }
  Schedule schedule = empty_schedule("zbv", std::move(placement), shape.microbatches);
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<Action>& list = schedule.ranks[static_cast<std::size_t>(rank)];
    list.reserve(static_cast<std::size_t>(rank) + 6 * static_cast<std::size_t>(written));
    write_rank(TwoPhaseWriter(list, {rank, 2 * ranks - 1 - rank}), ranks, rank, written);
    for (Action& action : list) {
      if (action.microbatch >= shape.microbatches) action = {};
    }
  }
  return schedule;
}

Expected<Schedule> zbv_of_any_m(std::string_view name, const ScheduleShape& shape) {
  ScheduleShape any = shape;
  any.any_m = true;
  PLAIT_TRY(Schedule schedule, generate_zbv(any));
  schedule.name = name;
  return schedule;
}

}  // namespace plait
