#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "plait/ir/placements.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/greedy/best_order.h"
#include "plait/schedule/greedy/makespan.h"
#include "plait/schedule/greedy/order_walk.h"
#include "plait/schedule/shape_checks.h"

namespace plait {
namespace {

/// Every fixed order over the same placement. Pairs are run in sequence, idle slots left out.
void offer_fixed(const Schedule& empty, const ScheduleShape& shape, BestOrder& best) {
  ScheduleShape fixed = shape;
  fixed.any_m = true;
  for (const GeneratorInfo& info : kGenerators) {
    if (info.generate == generate_zb_auto || info.generate == generate_zbv_auto) continue;
    Expected<Schedule> schedule = info.generate(fixed);
    if (!schedule || schedule->forward_only || schedule->placement != empty.placement) continue;
    for (std::vector<Action>& list : schedule->ranks)
      std::erase_if(list, [](const Action& action) { return !is_compute(action.type); });
    schedule->name = empty.name;
    best.offer(*std::move(schedule));
  }
}

/// No order is faster: every rank waits for its first input, then has all its work.
Nanoseconds least_makespan(const Placement& placement, const ActionCosts& costs, int microbatches) {
  const auto ranks = static_cast<std::size_t>(placement.ranks);
  std::vector<Nanoseconds> work(ranks);
  std::vector<Nanoseconds> first(ranks, -1);
  Nanoseconds arrival = 0;
  for (int stage = 0; stage < placement.stages(); ++stage) {
    const auto rank = static_cast<std::size_t>(placement.rank_of(stage));
    const auto at = static_cast<std::size_t>(stage);
    if (first[rank] < 0) first[rank] = arrival;
    const Nanoseconds backward =
        std::min(costs.backward_input[at] + costs.backward_weight[at], costs.backward[at]);
    work[rank] += (costs.forward[at] + costs.recompute_of(at) + backward) * microbatches;
    arrival += costs.forward[at];
    if (stage + 1 < placement.stages() && placement.rank_of(stage + 1) != placement.rank_of(stage))
      arrival += costs.hop;
  }
  Nanoseconds least = 0;
  for (std::size_t rank = 0; rank < ranks; ++rank)
    least = std::max(least, first[rank] + work[rank]);
  return least;
}

Expected<Schedule> make(std::string_view name, const ScheduleShape& shape, Placement placement,
                        int default_activations) {
  const Schedule empty = empty_schedule(name, std::move(placement), shape.microbatches);
  const int stages = empty.placement.stages();
  const ActionCosts costs = shape.costs ? *shape.costs : unit_costs(stages);
  PLAIT_TRY_VOID(check_costs(name, costs, stages));
  const int activations = shape.activations > 0 ? shape.activations : default_activations;
  BestOrder best(costs, activations);
  best.offer_greedy(empty, activations);
  offer_fixed(empty, shape, best);
  std::optional<Schedule> order = best.take();
  if (!order) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{}: a cap of {} stage activations per rank is too small, needs at "
                            "least {}, one for each stage of a rank",
                            name, activations, shape.chunks));
  }
  return improve_order(*std::move(order), costs, activations,
                       least_makespan(empty.placement, costs, shape.microbatches));
}

}  // namespace

Expected<Schedule> generate_zb_auto(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("zb-auto", shape, 1));
  PLAIT_TRY(Placement placement, place_loop(shape.ranks, shape.ranks));
  return make("zb-auto", shape, std::move(placement), 2 * shape.ranks - 1);
}

Expected<Schedule> generate_zbv_auto(const ScheduleShape& shape) {
  PLAIT_TRY_VOID(check_shape("zbv-auto", shape, 2));
  PLAIT_TRY(Placement placement, place_v(shape.ranks, 2 * shape.ranks));
  return make("zbv-auto", shape, std::move(placement), 2 * shape.ranks);
}

}  // namespace plait
