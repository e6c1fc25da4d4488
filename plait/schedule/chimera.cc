#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "plait/base/check.h"
#include "plait/ir/placements.h"
#include "plait/schedule/compute_action.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/greedy/best_order.h"
#include "plait/schedule/greedy/order_walk.h"
#include "plait/schedule/shape_checks.h"

namespace plait {
namespace {

/// How many micro-batches of one copy each unit has: P/2, but for an M that is no multiple of P,
/// where M div P units (one at least) share them evenly.
std::vector<int> units_of(const ScheduleShape& shape, int microbatches) {
  const int units = std::max(1, shape.microbatches / shape.ranks);
  std::vector<int> sizes;
  for (int unit = 0; unit < units; ++unit)
    sizes.push_back(microbatches / units + (unit < microbatches % units ? 1 : 0));
  return sizes;
}

/// One copy's forwards on a rank, or its backwards, in the order of their unit slots.
struct Lane {
  ActionType type;
  int stage;
  int first_slot;
  int next_microbatch;
  const std::vector<int>* units;
  std::size_t unit = 0;
  int in_unit = 0;

  bool done() const { return unit == units->size() || (*units)[unit] == 0; }
  std::int64_t slot(int ranks) const {
    return first_slot + std::int64_t{2} * ranks * static_cast<std::int64_t>(unit) +
           std::int64_t{2} * in_unit;
  }
  Action next() {
    if (++in_unit == (*units)[unit]) {
      in_unit = 0;
      ++unit;
    }
    return compute(type, stage, next_microbatch++);
  }
};

/// Merges the four lanes of a rank. Two are in one slot only in units of more than P/2.
void write_rank(std::vector<Action>& list, const ScheduleShape& shape, int rank,
                const std::array<std::vector<int>, 2>& units, bool backward_first) {
  const int ranks = shape.ranks;
  const int of_copy_0 = (shape.microbatches + 1) / 2;  // as Schedule::copy_of shares them out
  std::vector<Lane> lanes;
  for (std::size_t copy = 0; copy < 2; ++copy) {
    const int stage = copy == 0 ? rank : ranks - 1 - rank;
    const int first = copy == 0 ? 0 : of_copy_0;
    lanes.push_back({ActionType::kForward, stage, stage, first, &units.at(copy)});
    lanes.push_back({ActionType::kBackward, stage, 2 * ranks - 1 - stage, first, &units.at(copy)});
  }
  list.reserve(2 * static_cast<std::size_t>(shape.microbatches));
  while (list.size() < 2 * static_cast<std::size_t>(shape.microbatches)) {
    Lane* next = nullptr;
    for (Lane& candidate : lanes) {
      if (candidate.done()) continue;
      const bool wins_ties = (candidate.type == ActionType::kBackward) == backward_first;
      if (next == nullptr || candidate.slot(ranks) < next->slot(ranks) ||
          (candidate.slot(ranks) == next->slot(ranks) && wins_ties))
        next = &candidate;
    }
    list.push_back(next->next());
  }
}

Schedule write(const Schedule& empty, const ScheduleShape& shape, bool backward_first) {
  const std::array<std::vector<int>, 2> units = {units_of(shape, (shape.microbatches + 1) / 2),
                                                 units_of(shape, shape.microbatches / 2)};
  Schedule schedule = empty;
  for (int rank = 0; rank < shape.ranks; ++rank) {
    write_rank(schedule.ranks[static_cast<std::size_t>(rank)], shape, rank, units, backward_first);
  }
  return schedule;
}

/// The better of the two ways to break ties, each with neighbours swapped until it is idle no
/// longer at unit costs than for the multiple of P below.
Schedule write_for_any_m(const Schedule& empty, const ScheduleShape& shape) {
  const ActionCosts costs = unit_costs(shape.ranks);
  const int most = shape.ranks + 1;  // activations
  const Nanoseconds units = shape.microbatches / shape.ranks;
  const Nanoseconds idle = units == 0 ? 0 : (shape.ranks - 2) * (units + 1);
  const Nanoseconds goal = idle + Nanoseconds{3} * shape.microbatches;
  BestOrder best(costs, most);
  for (const bool backward_first : {true, false})
    best.offer(improve_order(write(empty, shape, backward_first), costs, most, goal));
  std::optional<Schedule> order = best.take();
  PLAIT_CHECK(order, "slots are in an order that can run");
  return *std::move(order);
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
  const Schedule empty = empty_schedule("chimera", std::move(placement), shape.microbatches);
  if (shape.microbatches % ranks != 0) return write_for_any_m(empty, shape);
  return write(empty, shape, true);
}

}  // namespace plait
