#include <cmath>

#include "plait/sim/bound/bounds.h"

namespace plait {
namespace {

/// Simulate's price of a block.
PairCost block_cost(const CostModel& costs) {
  return [actions = costs.actions, block = costs.pairs.block, share = costs.pairs.share](
             int forward_stage, int backward_stage, ActionType type) -> Nanoseconds {
    if (block) return *block;
    const auto f = static_cast<std::size_t>(forward_stage);
    const auto b = static_cast<std::size_t>(backward_stage);
    const Nanoseconds together =
        actions.forward[f] + actions.recompute_of(b) +
        (type == ActionType::kBackward ? actions.backward[b] : actions.backward_input[b]);
    if (!share) return together;
    return static_cast<Nanoseconds>(std::llround(*share * static_cast<double>(together)));
  };
}

std::array<Nanoseconds, kSegmentKinds> compute_lane(const Braid& braid) {
  std::array<Nanoseconds, kSegmentKinds> sums{};
  for (const BraidSegment& segment : braid.segments) {
    if (segment.lane == Lane::kCompute) sums[static_cast<std::size_t>(segment.of)] += segment.cost;
  }
  return sums;
}

}  // namespace

BoundInput bound_input(const Schedule& schedule, const CostModel& costs) {
  BoundInput input{schedule.placement, schedule.microbatches, costs.actions};
  input.forward_only = schedule.forward_only;
  if (costs.network) {
    input.hop = [network = *costs.network](int from, int to) { return network.transfer(from, to); };
  }
  if (costs.pairs.pricing == PairPricing::kBlock) input.pair = block_cost(costs);
  if (costs.pairs.pricing == PairPricing::kBraid && costs.pairs.braid)
    input.braid = compute_lane(costs.pairs.braid->braid());
  return input;
}

}  // namespace plait
