#include <fmt/core.h>

#include <algorithm>

#include "plait/ir/placements.h"
#include "plait/schedule/compute_action.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/shape_checks.h"

namespace plait {
namespace {

/// Rank r of H1 runs P-r forwards before its first I and has a lag of r, one of H2 2(P-r)-1 and
/// 2r. `more` is how many of H2's extra forwards M leaves: 0 for H1, P-1 and above for H2.
int warm_up_of(const ScheduleShape& shape, int rank, int more) {
  const int below = shape.ranks - 1 - rank;
  return 1 + below + std::min(below, more);
}
int lag_of(int rank, int more) { return rank + std::min(rank, more); }

/// `warm_up` forwards; then I by I, a W once `lag` I's have none, and a forward while there are
/// any.
void write_rank(std::vector<Action>& list, int stage, int warm_up, int lag, int microbatches) {
  list.reserve(3 * static_cast<std::size_t>(microbatches));
  int forwards = 0;
  int weights = 0;
  const auto forward = [&] {
    if (forwards < microbatches) list.push_back(compute(ActionType::kForward, stage, forwards++));
  };
  for (int i = 0; i < warm_up; ++i) forward();
  for (int mb = 0; mb < microbatches; ++mb) {
    list.push_back(compute(ActionType::kBackwardInput, stage, mb));
    if (mb >= lag) list.push_back(compute(ActionType::kBackwardWeight, stage, weights++));
    forward();
  }
  while (weights < microbatches)
    list.push_back(compute(ActionType::kBackwardWeight, stage, weights++));
}

Expected<Schedule> write(std::string_view name, const ScheduleShape& shape, int more) {
  PLAIT_TRY(Placement placement, place_loop(shape.ranks, shape.ranks));
  Schedule schedule = empty_schedule(name, std::move(placement), shape.microbatches);
  for (int rank = 0; rank < shape.ranks; ++rank) {
    write_rank(schedule.ranks[static_cast<std::size_t>(rank)], rank, warm_up_of(shape, rank, more),
               lag_of(rank, more), shape.microbatches);
  }
  return schedule;
}

}  // namespace

Expected<Schedule> generate_zb_h1(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("zb-h1", shape, 1));
  PLAIT_TRY_VOID(check_microbatches("zb-h1", shape,
                                    shape.any_m || shape.microbatches >= shape.ranks,
                                    fmt::format("at least {}, the number of ranks", shape.ranks)));
  return write("zb-h1", shape, 0);
}

Expected<Schedule> generate_zb_h2(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("zb-h2", shape, 1));
  const int needed = 2 * shape.ranks - 1;
  PLAIT_TRY_VOID(check_microbatches(
      "zb-h2", shape, shape.any_m || shape.microbatches >= needed,
      fmt::format("at least {}, twice the {} ranks less one", needed, shape.ranks)));
  // Between P and 2P-1 it lies between H1 and H2, with M activations on every rank.
  return write("zb-h2", shape, std::clamp(shape.microbatches - shape.ranks, 0, shape.ranks - 1));
}

}  // namespace plait
