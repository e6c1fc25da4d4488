#include "plait/sim/cost_model.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace plait {
namespace {

// A step's costs add up in 63 bits: half of that is the limit, so that no sum of ours overflows.
constexpr double kLargestSum = 4611686018427387904.0;  // 2^62

struct PerStage {
  std::string_view name;
  const std::vector<std::int64_t>* values;
  bool needed;
};

std::vector<PerStage> lists_of(const CostModel& costs) {
  return {{"f", &costs.actions.forward, true},
          {"i", &costs.actions.backward_input, true},
          {"w", &costs.actions.backward_weight, true},
          {"b", &costs.actions.backward, true},
          {"recompute", &costs.actions.recompute, false},
          {"unshard", &costs.unshard, false},
          {"reshard", &costs.reshard, false},
          {"reduce_grad", &costs.reduce_grad, false},
          {"activation_bytes", &costs.activation_bytes, false},
          {"recomputed_bytes", &costs.recomputed_bytes, false},
          {"f_scratch_bytes", &costs.scratch_bytes[0], false},
          {"i_scratch_bytes", &costs.scratch_bytes[1], false},
          {"w_scratch_bytes", &costs.scratch_bytes[2], false},
          {"b_scratch_bytes", &costs.scratch_bytes[3], false},
          {"between_i_and_w_bytes", &costs.between_i_and_w_bytes, false},
          {"parameter_bytes", &costs.parameter_bytes, false},
          {"gradient_bytes", &costs.gradient_bytes, false}};
}

Expected<void> check_not_negative(std::string_view name, std::int64_t value) {
  if (value >= 0) return {};
  return fail(ErrorCode::kInvalidInput, fmt::format("{} is {}, needed 0 or more", name, value),
              "costs");
}

Expected<void> check_link(const LinkCosts& link) {
  PLAIT_TRY_VOID(check_not_negative("latency", link.latency));
  return check_not_negative("bandwidth", link.bandwidth);
}

Expected<void> check_network(const Network& network, int ranks) {
  PLAIT_TRY_VOID(check_link(network.link));
  PLAIT_TRY_VOID(check_not_negative("message_bytes", network.message_bytes));
  for (const Network::Between& between : network.between) {
    PLAIT_TRY_VOID(check_link(between.link));
    for (const int rank : {between.from, between.to}) {
      if (rank >= 0 && rank < ranks) continue;
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("the link from rank {} to {} names rank {}, needed 0 … {}",
                              between.from, between.to, rank, ranks - 1),
                  "costs");
    }
  }
  return {};
}

Expected<void> check_collectives(const CostModel& costs) {
  if (!costs.collectives) return {};
  PLAIT_TRY_VOID(check_link(costs.collectives->link));
  if (costs.collectives->replicas < 1) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("replicas is {}, needed 1 or more", costs.collectives->replicas),
                "costs");
  }
  for (const auto& [name, times] :
       {std::pair("unshard", &costs.unshard), std::pair("reduce_grad", &costs.reduce_grad)}) {
    if (times->empty()) continue;
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{}_ns is given together with replicas, needed one or the other", name),
                "costs");
  }
  return {};
}

/// A braid says itself what its pairs recompute.
Expected<void> check_recompute(const CostModel& costs) {
  if (costs.pairs.pricing != PairPricing::kBraid) return {};
  const std::vector<Nanoseconds>& recompute = costs.actions.recompute;
  if (std::none_of(recompute.begin(), recompute.end(), [](Nanoseconds one) { return one > 0; }))
    return {};
  for (const BraidSegment& segment : costs.pairs.braid->braid().segments)
    if (segment.of == SegmentOf::kRecompute) return {};
  return fail(ErrorCode::kInvalidInput,
              "stages recompute, but the braid of a pair has no segment of R, needed one such as "
              "mlp.R",
              "costs");
}

/// What a link takes, for sums that cannot overflow.
double rough_transfer(const LinkCosts& link, double bytes) {
  const double rate = static_cast<double>(std::max<std::int64_t>(link.bandwidth, 1));
  return static_cast<double>(link.latency) + (link.bandwidth == 0 ? 0 : bytes / rate * 1e9 + 1);
}

/// What the dearest link takes for a message.
double dearest_transfer(const Network& network) {
  const auto bytes = static_cast<double>(network.message_bytes);
  double dearest = rough_transfer(network.link, bytes);
  for (const Network::Between& between : network.between)
    dearest = std::max(dearest, rough_transfer(between.link, bytes));
  return dearest;
}

/// What an UNSHARD and a REDUCE_GRAD of every stage take.
double all_collectives(const CostModel& costs) {
  double sum = 0;
  for (const std::vector<Bytes>* list : {&costs.parameter_bytes, &costs.gradient_bytes}) {
    for (const Bytes bytes : *list)
      sum += rough_transfer(costs.collectives->link, static_cast<double>(bytes));
  }
  return sum;
}

/// What `bytes` occupy a link for.
Nanoseconds transfer_over(const LinkCosts& link, Bytes bytes) {
  if (link.bandwidth == 0) return link.latency;
  __extension__ using Wide = __int128;
  const Wide product = static_cast<Wide>(bytes) * 1'000'000'000 + link.bandwidth - 1;
  return link.latency + static_cast<Nanoseconds>(product / link.bandwidth);
}

/// By stage; without bytes a collective takes its latency.
std::vector<Nanoseconds> times_of(const Collectives& collectives, const std::vector<Bytes>& bytes,
                                  std::size_t stages) {
  std::vector<Nanoseconds> times(stages, collectives.transfer(0));
  for (std::size_t s = 0; s < bytes.size(); ++s) times[s] = collectives.transfer(bytes[s]);
  return times;
}

}  // namespace

const LinkCosts& Network::of(int from, int to) const {
  for (const Between& one : between) {
    if (one.from == from && one.to == to) return one.link;
  }
  return link;
}

Nanoseconds Network::transfer(int from, int to) const {
  return transfer_over(of(from, to), message_bytes);
}

Bytes Collectives::share_of(Bytes whole) const {
  return whole / replicas + (whole % replicas == 0 ? 0 : 1);
}

Nanoseconds Collectives::transfer(Bytes whole) const {
  return replicas < 2 ? 0 : transfer_over(link, whole - whole / replicas);
}

bool CostModel::has_bytes() const {
  const auto any = [](const std::vector<Bytes>& bytes) {
    return std::any_of(bytes.begin(), bytes.end(), [](Bytes one) { return one > 0; });
  };
  return std::any_of(scratch_bytes.begin(), scratch_bytes.end(), any) || any(activation_bytes) ||
         any(recomputed_bytes) || any(between_i_and_w_bytes) || any(parameter_bytes) ||
         any(gradient_bytes) || (network && network->message_bytes > 0);
}

std::vector<Nanoseconds> CostModel::unshard_times() const {
  return collectives ? times_of(*collectives, parameter_bytes, actions.forward.size()) : unshard;
}

std::vector<Nanoseconds> CostModel::reduce_grad_times() const {
  return collectives ? times_of(*collectives, gradient_bytes, actions.forward.size()) : reduce_grad;
}

CostModel unit_cost_model(int stages, Nanoseconds unit) {
  CostModel costs;
  costs.actions = unit_costs(stages, unit);
  return costs;
}

Expected<void> check_cost_model(const CostModel& costs, const Schedule& schedule) {
  const auto stages = static_cast<std::size_t>(schedule.placement.stages());
  double sum = 0;
  for (const PerStage& list : lists_of(costs)) {
    if (list.values->empty() && !list.needed) continue;
    if (list.values->size() != stages) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{} has {} entries, needed one for each of {} stages", list.name,
                              list.values->size(), stages),
                  "costs");
    }
    for (const std::int64_t value : *list.values) {
      PLAIT_TRY_VOID(check_not_negative(list.name, value));
      sum += static_cast<double>(value);
    }
  }
  PLAIT_TRY_VOID(check_not_negative("comm", costs.actions.hop));
  double message = static_cast<double>(costs.actions.hop);
  if (costs.network) {
    PLAIT_TRY_VOID(check_network(*costs.network, schedule.placement.ranks));
    message += dearest_transfer(*costs.network);
    message += static_cast<double>(costs.network->message_bytes);
  }
  PLAIT_TRY_VOID(check_collectives(costs));
  if (costs.collectives) sum += all_collectives(costs);
  const PairCosts& pairs = costs.pairs;
  if (pairs.block) {
    PLAIT_TRY_VOID(check_not_negative("the pair's cost", *pairs.block));
    sum += static_cast<double>(*pairs.block);
  }
  if (pairs.share && !(std::isfinite(*pairs.share) && *pairs.share >= 0)) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the pair's share is {}, needed 0 or more", *pairs.share), "costs");
  }
  if (pairs.share) sum *= 1 + *pairs.share;
  if (pairs.pricing == PairPricing::kBraid && !pairs.braid)
    return fail(ErrorCode::kInvalidInput, "braided pairs need their segments, found none", "costs");
  PLAIT_TRY_VOID(check_recompute(costs));
  if (pairs.braid) {
    for (const BraidSegment& segment : pairs.braid->braid().segments)
      sum += static_cast<double>(segment.cost);
  }
  const double messages = 4 * static_cast<double>(stages);
  const double step = (sum * static_cast<double>(stages) + message * messages) *
                      static_cast<double>(std::max(schedule.microbatches, 1));
  if (step >= kLargestSum) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the costs of a step may add up to {:.3g}, needed less than {:.3g}",
                            step, kLargestSum),
                "costs");
  }
  return {};
}

}  // namespace plait
