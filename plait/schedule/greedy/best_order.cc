#include "plait/schedule/greedy/best_order.h"

#include <fmt/core.h>

#include <algorithm>

#include "plait/schedule/greedy/list_scheduler.h"
#include "plait/schedule/greedy/makespan.h"

namespace plait {

void BestOrder::offer(Schedule schedule) {
  const Expected<OrderPrice> price = price_order(schedule, costs_);
  if (!price || price->makespan >= makespan_) return;
  const std::vector<int>& peaks = price->peak_activations;
  if (*std::max_element(peaks.begin(), peaks.end()) > activations_) return;
  best_ = std::move(schedule);
  makespan_ = price->makespan;
}

void BestOrder::offer_greedy(const Schedule& empty, int activations, Nanoseconds enough,
                             const std::vector<int>& of_stage) {
  for (const WeightRule weight : {WeightRule::kAlways, WeightRule::kFits, WeightRule::kHalf}) {
    for (const bool alternate : {false, true}) {
      for (const bool low_memory_first : {false, true}) {
        if (best_ && makespan_ <= enough) return;
        ListPolicy policy;
        policy.weight = weight;
        policy.alternate = alternate;
        policy.low_memory_first = low_memory_first;
        policy.activations = activations;
        policy.of_stage = of_stage;
        policy.microbatches = empty.microbatches;
        Schedule schedule = empty;
        if (append_list_schedule(schedule, costs_, policy)) offer(std::move(schedule));
      }
    }
  }
}

Expected<Schedule> best_greedy_order(std::string_view name, Placement placement, int microbatches,
                                     std::initializer_list<int> caps, Nanoseconds idle) {
  const Schedule empty = empty_schedule(name, std::move(placement), microbatches);
  const ActionCosts costs = unit_costs(empty.placement.stages());
  // Every rank holds as many stages as the first, of each its copy's share of the micro-batches.
  const Nanoseconds work =
      Nanoseconds{3} * microbatches * empty.placement.stages() / empty.placement.ranks;
  BestOrder best(costs, std::max(caps));
  for (const int cap : caps) best.offer_greedy(empty, cap, work + idle);
  std::optional<Schedule> order = best.take();
  if (order) return *std::move(order);
  return fail(
      ErrorCode::kInvalidInput,
      fmt::format("{}: {} stage activations per rank are too few to go on", name, std::max(caps)));
}

}  // namespace plait
