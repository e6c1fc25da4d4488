#include "plait/search/starts.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "plait/schedule/generators.h"
#include "plait/schedule/greedy/best_order.h"
#include "plait/schedule/greedy/makespan.h"

namespace plait {
namespace {

/// Compute actions alone, B as I and W.
Schedule split(Schedule schedule) {
  for (std::vector<Action>& list : schedule.ranks) {
    std::vector<Action> apart;
    apart.reserve(list.size());
    for (Action action : list) {
      if (!is_compute(action.type)) continue;
      const bool whole = action.type == ActionType::kBackward;
      if (whole) action.type = ActionType::kBackwardInput;
      apart.push_back(action);
      if (!whole) continue;
      action.type = ActionType::kBackwardWeight;
      apart.push_back(action);
    }
    list = std::move(apart);
  }
  return schedule;
}

class Starts {
 public:
  Starts(const Placement& placement, int microbatches, const OrderCosts& costs)
      : empty_(empty_schedule("search", placement, microbatches)), costs_(costs) {}

  void offer(std::string_view how, Schedule schedule) {
    if (schedule.forward_only || schedule.placement != empty_.placement ||
        schedule.microbatches != empty_.microbatches)
      return;
    schedule = split(std::move(schedule));
    schedule.name = empty_.name;
    if (first_over_cap(schedule, costs_) >= 0 || !price_order(schedule, costs_.actions)) return;
    const Nanoseconds makespan = OrderGraph(schedule, costs_).makespan();
    starts_.push_back({std::string(how), std::move(schedule), makespan});
  }

  void offer_generated(int activations) {
    ScheduleShape shape;
    shape.ranks = empty_.placement.ranks;
    shape.microbatches = empty_.microbatches;
    shape.chunks = empty_.placement.stages() / std::max(shape.ranks, 1);
    shape.any_m = true;
    shape.costs = costs_.actions;
    shape.activations = activations;
    if (shape.chunks * shape.ranks != empty_.placement.stages()) return;
    for (const GeneratorInfo& info : kGenerators) {
      if (Expected<Schedule> schedule = info.generate(shape))
        offer(info.name, *std::move(schedule));
    }
  }

  void offer_greedy(int activations) {
    BestOrder best(costs_.actions, activations);
    best.offer_greedy(empty_, activations);
    if (std::optional<Schedule> order = best.take()) offer("greedy", *std::move(order));
  }

  std::vector<Start> take() {
    std::stable_sort(starts_.begin(), starts_.end(),
                     [](const Start& a, const Start& b) { return a.makespan < b.makespan; });
    std::vector<Start> kept;
    for (Start& start : starts_) {
      const bool known = std::any_of(kept.begin(), kept.end(), [&](const Start& other) {
        return other.schedule.ranks == start.schedule.ranks;
      });
      if (!known) kept.push_back(std::move(start));
    }
    return kept;
  }

 private:
  Schedule empty_;
  const OrderCosts& costs_;
  std::vector<Start> starts_;
};

}  // namespace

Schedule one_at_a_time(const Placement& placement, int microbatches) {
  Schedule schedule = empty_schedule("search", placement, microbatches);
  const int stages = placement.stages();
  for (int mb = 0; mb < microbatches; ++mb) {
    const auto put = [&](ActionType type, int stage) {
      schedule.ranks[static_cast<std::size_t>(schedule.rank_of(stage, mb))].push_back(
          {stage, mb, type, 0});
    };
    for (int stage = 0; stage < stages; ++stage) put(ActionType::kForward, stage);
    for (int stage = stages - 1; stage >= 0; --stage) {
      put(ActionType::kBackwardInput, stage);
      put(ActionType::kBackwardWeight, stage);
    }
  }
  return schedule;
}

std::vector<Start> starts_of(const Placement& placement, int microbatches, const OrderCosts& costs,
                             int activations) {
  Starts starts(placement, microbatches, costs);
  starts.offer_generated(activations);
  starts.offer_greedy(activations);
  starts.offer("one-at-a-time", one_at_a_time(placement, microbatches));
  return starts.take();
}

}  // namespace plait
