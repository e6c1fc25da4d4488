#include "plait/search/caps.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>

#include "plait/search/starts.h"

namespace plait {
namespace {

Bytes entry(const std::vector<Bytes>& bytes, std::size_t stage) {
  return bytes.empty() ? 0 : bytes[stage];
}

/// As the simulator counts (rank_totals.cc).
void set_byte_holds(const CostModel& costs, int stages, OrderCosts& order_costs) {
  const auto scratch = [&](ActionType type, std::size_t stage) {
    return entry(costs.scratch_bytes[compute_index(type)], stage);
  };
  for (std::size_t stage = 0; stage < static_cast<std::size_t>(stages); ++stage) {
    const Bytes activation = entry(costs.activation_bytes, stage);
    const Bytes recomputed = entry(costs.recomputed_bytes, stage);
    const Bytes between = entry(costs.between_i_and_w_bytes, stage);
    const auto add = [&](ActionType type, Bytes while_it_runs, Bytes kept) {
      order_costs.holds[compute_index(type)].push_back(
          {while_it_runs + scratch(type, stage), kept});
    };
    add(ActionType::kForward, activation, activation);
    add(ActionType::kBackwardInput, recomputed, between - activation);
    add(ActionType::kBackwardWeight, 0, -between);
    add(ActionType::kBackward, recomputed, -activation);
  }
}

/// Parameters and gradients, which a rank holds all the time.
Bytes constant_bytes(const SearchQuestion& question, int rank) {
  Bytes bytes = 0;
  for (const int stage : question.placement.stages_of(rank)) {
    bytes += entry(question.costs.parameter_bytes, static_cast<std::size_t>(stage)) +
             entry(question.costs.gradient_bytes, static_cast<std::size_t>(stage));
  }
  return bytes;
}

struct Need {
  std::int64_t peak = 0;     ///< of one_at_a_time()
  std::int64_t certain = 0;  ///< of any order
};

// Every order: while a micro-batch's F of stage s runs, its activations of the rank's stages up to
// s are held, and while its I of s runs too, for the I's of the stages before follow it. Both are
// peaks of one_at_a_time(), which has one micro-batch at a time; what it holds in a W need not be.
Need need_of(const Schedule& alone, const OrderCosts& costs, std::size_t rank) {
  Need need;
  std::int64_t held = 0;
  for (const Action& action : alone.ranks[rank]) {
    const OrderCosts::Hold hold = costs.hold(action);
    need.peak = std::max(need.peak, held + hold.peak);
    if (action.type != ActionType::kBackwardWeight)
      need.certain = std::max(need.certain, held + hold.peak);
    held += hold.kept;
  }
  return need;
}

Expected<void> check_caps(const SearchQuestion& question, const OrderCosts& costs) {
  const Schedule alone = one_at_a_time(question.placement, 1);
  Need most;
  bool all_fit = true;
  for (std::size_t rank = 0; rank < alone.ranks.size(); ++rank) {
    Need need = need_of(alone, costs, rank);
    all_fit = all_fit && need.peak <= costs.caps[rank];
    const Bytes constant =
        question.cap.bytes ? constant_bytes(question, static_cast<int>(rank)) : 0;
    most.peak = std::max(most.peak, need.peak + constant);
    most.certain = std::max(most.certain, need.certain + constant);
  }
  if (all_fit) return {};
  const std::int64_t cap = question.cap.bytes ? *question.cap.bytes : *question.cap.activations;
  const char* const unit = question.cap.bytes ? "bytes" : "stage activations";
  if (most.peak == most.certain) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("no order keeps a cap of {} {} a rank: {} is the least, with one "
                            "micro-batch at a time",
                            cap, unit, most.peak),
                "memory");
  }
  return fail(ErrorCode::kInvalidInput,
              fmt::format("a cap of {} {} a rank is too low: one micro-batch at a time holds {}, "
                          "every order at least {}",
                          cap, unit, most.peak, most.certain),
              "memory");
}

}  // namespace

Expected<OrderCosts> order_costs(const SearchQuestion& question) {
  OrderCosts costs{question.costs.actions};
  if (question.costs.network) {
    costs.hop = [network = *question.costs.network](int from, int to) {
      return network.transfer(from, to);
    };
  }
  const auto ranks = static_cast<std::size_t>(question.placement.ranks);
  if (question.cap.bytes) {
    set_byte_holds(question.costs, question.placement.stages(), costs);
    for (std::size_t rank = 0; rank < ranks; ++rank)
      costs.caps.push_back(*question.cap.bytes - constant_bytes(question, static_cast<int>(rank)));
  } else {
    costs.caps.assign(ranks, question.cap.activations.value_or(std::numeric_limits<int>::max()));
  }
  PLAIT_TRY_VOID(check_caps(question, costs));
  return costs;
}

// In bytes: from F's begin to W's end an activation holds its own bytes or those between I and W,
// so at least the lesser of the two.
std::vector<int> activation_caps(const SearchQuestion& question) {
  const auto ranks = static_cast<std::size_t>(question.placement.ranks);
  if (question.cap.activations) return std::vector<int>(ranks, *question.cap.activations);
  if (!question.cap.bytes) return {};
  std::vector<int> caps;
  for (int rank = 0; rank < question.placement.ranks; ++rank) {
    Bytes least = std::numeric_limits<Bytes>::max();
    for (const int stage : question.placement.stages_of(rank)) {
      const auto at = static_cast<std::size_t>(stage);
      least = std::min({least, entry(question.costs.activation_bytes, at),
                        entry(question.costs.between_i_and_w_bytes, at)});
    }
    const std::int64_t most = question.placement.stages() * std::int64_t{question.microbatches};
    const Bytes room = *question.cap.bytes - constant_bytes(question, rank);
    caps.push_back(static_cast<int>(least > 0 ? std::min(room / least, most) : most));
  }
  return caps;
}

}  // namespace plait
