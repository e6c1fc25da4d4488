#include "plait/search/starts.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/greedy/best_order.h"
#include "plait/schedule/greedy/makespan.h"

namespace plait {
namespace {

/// What generators make, without idle slots and pairs, and B as I and W.
Expected<Schedule> split(Schedule schedule) {
  PLAIT_TRY(schedule, unpair(std::move(schedule), {}));
  PLAIT_TRY(schedule, drop_idle(std::move(schedule), {}));
  return split_backward(std::move(schedule), {});
}

class Starts {
 public:
  Starts(const Placement& placement, int microbatches, const OrderCosts& costs)
      : empty_(empty_schedule("search", placement, microbatches)), costs_(costs) {}

  void offer(std::string_view how, Schedule given) {
    if (given.forward_only || given.placement != empty_.placement ||
        given.microbatches != empty_.microbatches)
      return;
    Expected<Schedule> apart = split(std::move(given));
    if (!apart) return;
    Schedule& schedule = *apart;
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

  /// Greedy orders with a limit for each stage too: what its micro-batches need to go through the
  /// ranks behind it and back in a steady state, and a part of what the cap leaves.
  void offer_steady(int activations) {
    const Placement& placement = empty_.placement;
    if (placement.copies > 1) return;
    const std::vector<double> needed = steady_activations();
    for (const double share : {0.0, 0.25, 0.5, 0.75, 1.0, 1.5}) {
      std::vector<int> of_stage(needed.size());
      for (int rank = 0; rank < placement.ranks; ++rank) {
        const std::vector<int> stages = placement.stages_of(rank);
        double all = 0;
        for (const int stage : stages) all += needed[static_cast<std::size_t>(stage)];
        const double left = activations - all;
        int given = 0;
        for (std::size_t i = stages.size(); i-- > 0;) {
          const auto at = static_cast<std::size_t>(stages[i]);
          const double part = (1 - share) / static_cast<double>(stages.size()) +
                              share * (all > 0 ? needed[at] / all : 0);
          const int rest = activations - given - static_cast<int>(i);
          of_stage[at] = i == 0
                             ? rest
                             : std::clamp(static_cast<int>(std::lround(needed[at] + left * part)),
                                          1, std::max(rest, 1));
          given += of_stage[at];
        }
      }
      BestOrder best(costs_.actions, activations);
      best.offer_greedy(empty_, activations, 0, of_stage);
      if (std::optional<Schedule> order = best.take()) offer("steady", *std::move(order));
    }
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
  /// By stage: how long one micro-batch alone is held there, in periods of the rank with most work.
  std::vector<double> steady_activations() const {
    const Placement& placement = empty_.placement;
    const ActionCosts& costs = costs_.actions;
    const auto stages = static_cast<std::size_t>(placement.stages());
    std::vector<Nanoseconds> work(static_cast<std::size_t>(placement.ranks));
    std::vector<double> held(stages);
    Nanoseconds behind = 0;  // from the end of the stage's F to the begin of its I
    for (std::size_t stage = stages; stage-- > 0;) {
      const int rank = placement.rank_of(static_cast<int>(stage));
      const Nanoseconds own = costs.forward[stage] + costs.recompute_of(stage) +
                              costs.backward_input[stage] + costs.backward_weight[stage];
      work[static_cast<std::size_t>(rank)] += own;
      held[stage] = static_cast<double>(own + behind);
      if (stage == 0) break;
      const int before = placement.rank_of(static_cast<int>(stage) - 1);
      behind += costs.forward[stage] + costs.backward_input[stage] + costs_.delay(before, rank) +
                costs_.delay(rank, before);
    }
    const auto period = static_cast<double>(*std::max_element(work.begin(), work.end()));
    for (double& one : held) one = period > 0 ? one / period : 0;
    return held;
  }

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
  starts.offer_steady(activations);
  starts.offer("one-at-a-time", one_at_a_time(placement, microbatches));
  return starts.take();
}

}  // namespace plait
