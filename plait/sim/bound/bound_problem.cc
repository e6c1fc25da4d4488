#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "plait/sim/bound/bounds.h"

namespace plait {
namespace {

constexpr std::size_t kF = 0;
constexpr std::size_t kI = 1;
constexpr std::size_t kW = 2;
constexpr std::size_t kMostLines = 8;
constexpr double kLargestSum = 1152921504606846976.0;  // 2^60

using Lengths = std::vector<std::array<Nanoseconds, 3>>;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

int microbatches_of(const BoundInput& input, int copy) {
  const auto copies = std::int64_t{input.placement.copies};
  // The first m with floor(copies * m / M) >= copy is ceil(copy * M / copies).
  const auto first = [&](std::int64_t c) { return (c * input.microbatches + copies - 1) / copies; };
  return static_cast<int>(first(copy + 1) - first(copy));
}

Expected<void> check_costs(const BoundInput& input) {
  const std::size_t stages = at(input.placement.stages());
  const ActionCosts& costs = input.costs;
  double sum = 0;
  for (const auto* list : {&costs.forward, &costs.backward_input, &costs.backward_weight,
                           &costs.backward, &costs.recompute}) {
    if (list == &costs.recompute && list->empty()) continue;
    if (list->size() != stages) {
      return fail(
          ErrorCode::kInvalidInput,
          fmt::format("costs are of {} stages, the placement has {}", list->size(), stages));
    }
    for (const Nanoseconds cost : *list) {
      if (cost < 0)
        return fail(ErrorCode::kInvalidInput,
                    fmt::format("a cost is {} ns, needs 0 or more", cost));
      sum += static_cast<double>(cost) * input.placement.copies;
    }
  }
  if (costs.hop < 0)
    return fail(ErrorCode::kInvalidInput, fmt::format("hop is {} ns, needs 0 or more", costs.hop));
  sum += 2.0 * static_cast<double>(costs.hop) * static_cast<double>(stages);
  if (sum * (input.microbatches + 2.0) > kLargestSum) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("costs of {} micro-batches add up to {:.3g} ns, needs at most 2^60",
                            input.microbatches, sum * input.microbatches));
  }
  return {};
}

Expected<void> check_shape(const BoundInput& input) {
  const Placement& placement = input.placement;
  if (placement.ranks < 1 || placement.copies < 1 || placement.stages() < 1) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} ranks, {} stages, {} copies: needs at least 1 of each",
                            placement.ranks, placement.stages(), placement.copies));
  }
  if (input.microbatches < 1) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("microbatches is {}, needs at least 1", input.microbatches));
  }
  for (const int rank : placement.rank_of_stage) {
    if (rank < 0 || rank >= placement.ranks) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("a stage is on rank {} of {}", rank, placement.ranks));
    }
  }
  return {};
}

Expected<void> check_caps(const BoundInput& input) {
  const Placement& placement = input.placement;
  if (input.activations.empty()) return {};
  if (input.activations.size() != at(placement.ranks)) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} caps for {} ranks", input.activations.size(), placement.ranks));
  }
  for (int copy = 0; copy < placement.copies; ++copy) {
    if (microbatches_of(input, copy) == 0) continue;
    std::vector<int> needed(at(placement.ranks));
    for (int stage = 0; stage < placement.stages(); ++stage) {
      const int rank = placement.rank_of(stage, copy);
      if (input.activations[at(rank)] < ++needed[at(rank)]) {
        return fail(ErrorCode::kInvalidInput,
                    fmt::format("rank {} may hold {} activations, one micro-batch alone has more",
                                rank, input.activations[at(rank)]));
      }
    }
  }
  return {};
}

/// The larger part of cost that falls to `part` if `whole` costs `cost`; rounded down.
Nanoseconds share(Nanoseconds cost, Nanoseconds part, Nanoseconds whole) {
  if (whole <= cost || whole == 0) return part;
  return static_cast<Nanoseconds>(static_cast<__int128>(cost) * part / whole);
}

/// What pairs of one rank's stages leave of the lengths of F, I and W, in two ways. Both keep
///   F of a + I of b <= the pair (F of a; I of b),  F of a + I and W of b <= (F of a; B of b).
class PairShares {
 public:
  PairShares(const PairCost& pair, const std::vector<int>& stages, const Lengths& alone)
      : pair_(pair), stages_(stages), alone_(alone) {}

  /// In proportion to what they cost alone.
  Lengths proportional() const {
    Lengths lengths = alone_;
    for (std::size_t a = 0; a < stages_.size(); ++a) {
      for (std::size_t b = 0; b < stages_.size(); ++b) {
        const Nanoseconds forward = alone_[a][kF];
        const Nanoseconds with_input = forward + alone_[b][kI];
        const Nanoseconds with_both = with_input + alone_[b][kW];
        const Nanoseconds input = cost(a, b, ActionType::kBackwardInput);
        const Nanoseconds both = cost(a, b, ActionType::kBackward);
        reduce(lengths[a][kF], share(input, forward, with_input));
        reduce(lengths[a][kF], share(both, forward, with_both));
        reduce(lengths[b][kI], share(input, alone_[b][kI], with_input));
        reduce(lengths[b][kI], share(both, alone_[b][kI], with_both));
        reduce(lengths[b][kW], share(both, alone_[b][kW], with_both));
      }
    }
    return lengths;
  }

  /// F in full, the backward what is left: no loss by rounding. F less where even it is too long.
  Lengths forward_first() const {
    Lengths lengths = alone_;
    for (std::size_t a = 0; a < stages_.size(); ++a) {
      for (std::size_t b = 0; b < stages_.size(); ++b) {
        reduce(lengths[a][kF], cost(a, b, ActionType::kBackwardInput));
        reduce(lengths[a][kF], cost(a, b, ActionType::kBackward));
      }
    }
    for (std::size_t b = 0; b < stages_.size(); ++b) {
      Nanoseconds both = alone_[b][kI] + alone_[b][kW];
      for (std::size_t a = 0; a < stages_.size(); ++a) {
        reduce(lengths[b][kI], cost(a, b, ActionType::kBackwardInput) - lengths[a][kF]);
        reduce(both, cost(a, b, ActionType::kBackward) - lengths[a][kF]);
      }
      reduce(lengths[b][kI], both);
      reduce(lengths[b][kW], both - lengths[b][kI]);
    }
    return lengths;
  }

  /// Of the pairs of F of a and the backward of b, beside their lengths and delays.
  Nanoseconds left(std::size_t a, std::size_t b, Nanoseconds forward,
                   const BoundStage& backward) const {
    const Nanoseconds input_delay = backward.delay[kI];
    const Nanoseconds input = forward + backward.length[kI];
    const Nanoseconds both = input + backward.length[kW];
    return std::min(
        cost(a, b, ActionType::kBackwardInput) - std::max(input_delay, input),
        cost(a, b, ActionType::kBackward) - std::max(input_delay + backward.delay[kW], both));
  }

  Nanoseconds cost(std::size_t a, std::size_t b, ActionType type) const {
    return std::max<Nanoseconds>(0, pair_(stages_[a], stages_[b], type));
  }

 private:
  static void reduce(Nanoseconds& value, Nanoseconds limit) { value = std::min(value, limit); }

  const PairCost& pair_;
  const std::vector<int>& stages_;
  const Lengths& alone_;
};

Nanoseconds sum(const Lengths& lengths) {
  Nanoseconds result = 0;
  for (const auto& [forward, input, weight] : lengths) result += forward + input + weight;
  return result;
}

/// Of lines that j = 0 … most tells apart, those that are the largest somewhere; at most eight.
void prune(std::vector<TailLine>& lines, int most) {
  std::sort(lines.begin(), lines.end(), [](const TailLine& a, const TailLine& b) {
    return std::pair(a.last, a.later) > std::pair(b.last, b.later);
  });
  std::vector<TailLine> kept;
  const auto end = [most](const TailLine& line) { return line.last + most * line.later; };
  for (const TailLine& line : lines) {
    if (kept.empty() || end(line) > end(kept.back())) kept.push_back(line);
  }
  if (kept.size() > kMostLines) {
    kept.erase(kept.begin() + kMostLines - 1, kept.end() - 1);
  }
  lines = std::move(kept);
}

}  // namespace

Expected<BoundProblem> BoundProblem::make(const BoundInput& input) {
  PLAIT_TRY_VOID(check_shape(input));
  PLAIT_TRY_VOID(check_costs(input));
  PLAIT_TRY_VOID(check_caps(input));
  BoundProblem problem;
  problem.copies_ = input.placement.copies;
  problem.forward_only_ = input.forward_only;
  if (!input.forward_only) problem.activations_ = input.activations;
  problem.stages_of_.resize(at(input.placement.ranks));
  for (int copy = 0; copy < input.placement.copies; ++copy) {
    const int microbatches = microbatches_of(input, copy);
    for (int stage = 0; stage < input.placement.stages(); ++stage) {
      BoundStage entry;
      entry.rank = input.placement.rank_of(stage, copy);
      entry.microbatches = microbatches;
      if (microbatches > 0)
        problem.stages_of_[at(entry.rank)].push_back(static_cast<int>(problem.stages_.size()));
      problem.stages_.push_back(std::move(entry));
    }
  }
  problem.set_lengths(input);
  for (int copy = 0; copy < input.placement.copies; ++copy) problem.set_paths(input, copy);
  return problem;
}

// Every schedule with its costs becomes one of F, I and W alone with lengths and delays that are
// not larger, and ends no later; so a bound of these is a bound of all schedules.
//
// B. With i' = min(i, b) and w' = min(b, i + w) - i': I and W apart take i >= i' and w >= w'. A B
// takes b >= i' + w': call its first i' I and its last w' W. This I ends no later than B's result
// is there, W ends with B.
//
// Pair of F of a and B of b, from t to t + c. Lengths F, I, W with F + I + W <= c (PairShares) and
// delays F <= c, I <= c, W <= c - I: I runs from t, W up to t + c, F between; I's result counts at
// t + its delay, F's at t + c. All are within the pair, which reads its inputs at t and has its
// results at t + c. The same without W for a pair of F and I.
//
// Braid. A member's segments on the compute lane run one by one between its input and its result:
// the first of the backward's are R, then I, the rest W.
//
// R. It runs between F and I on the rank, whether I's gradient is there or not, so it takes its
// rank's time but lies on no path from another stage's I; the last stage's I waits for no gradient,
// so there R lies between F and I. In a braid R's segments may stand between I's: call the first of
// both R; that is not before the F, and what is then I is not before the real one. In a pair as a
// block R runs first and takes what its length, and the delays of I and W, leave of the pair.
void BoundProblem::set_lengths(const BoundInput& input) {
  const int stages = input.placement.stages();
  Lengths alone(at(stages));
  for (std::size_t s = 0; s < alone.size(); ++s) {
    const ActionCosts& costs = input.costs;
    const Nanoseconds whole = costs.backward[s];
    const Nanoseconds first =
        input.whole_backward ? whole : std::min(costs.backward_input[s], whole);
    const Nanoseconds both =
        input.whole_backward ? whole
                             : std::min(whole, costs.backward_input[s] + costs.backward_weight[s]);
    alone[s] = {costs.forward[s], first, both - first};
    if (input.forward_only) alone[s] = {costs.forward[s], 0, 0};
  }
  for (std::size_t index = 0; index < stages_.size(); ++index) {
    Nanoseconds& recompute = stages_[index].recompute;
    if (!input.forward_only) recompute = input.costs.recompute_of(index % alone.size());
    if (input.braid) recompute = std::min(recompute, input.braid->back());
    auto& lengths = stages_[index].length = alone[index % alone.size()];
    for (std::size_t kind = 0; input.braid && kind < lengths.size(); ++kind)
      lengths[kind] = std::min(lengths[kind], (*input.braid)[kind]);
    stages_[index].delay = lengths;
  }
  if (!input.pair || input.forward_only) return;
  for (const std::vector<int>& held : stages_of_) {
    std::vector<int> numbers;
    Lengths own;
    for (const int index : held) {
      numbers.push_back(index % stages);
      own.push_back(stages_[at(index)].length);
    }
    const PairShares shares(input.pair, numbers, own);
    Lengths lengths = shares.forward_first();
    if (Lengths other = shares.proportional(); sum(other) > sum(lengths)) lengths = other;
    for (std::size_t b = 0; b < held.size(); ++b) {
      auto& [forward, first, weight] = stages_[at(held[b])].delay;
      for (std::size_t a = 0; a < held.size(); ++a) {
        for (const ActionType type : {ActionType::kBackwardInput, ActionType::kBackward}) {
          forward = std::min(forward, shares.cost(b, a, type));
          first = std::min(first, shares.cost(a, b, type));
        }
      }
      for (std::size_t a = 0; a < held.size(); ++a)
        weight = std::min(weight, shares.cost(a, b, ActionType::kBackward) - first);
      stages_[at(held[b])].length = {std::min(lengths[b][kF], forward),
                                     std::min(lengths[b][kI], first),
                                     std::min(lengths[b][kW], weight)};
    }
    for (std::size_t a = 0; a < held.size(); ++a) {
      for (std::size_t b = 0; b < held.size(); ++b) {
        BoundStage& stage = stages_[at(held[b])];
        const Nanoseconds left = shares.left(a, b, stages_[at(held[a])].length[kF], stage);
        stage.recompute = std::clamp<Nanoseconds>(left, 0, stage.recompute);
      }
    }
  }
}

// Heads. The first F of stage s starts after the F's of the stages before, hop by hop; the first I
// after all F's, the last stage's R and the I's of the stages behind; R after its F. When k + 1
// micro-batches have started their F on s, they all have passed every action X on that path. The
// one of them that started X last started it after k others took its rank for X's length each, so
// not before X's head + k * length; from there it had the rest of the path to go. So the (k+1)-th
// start on s is not before head + k * (largest length on the path, s included).
//
// Tails. After the F of stage s that j others follow, j + 1 micro-batches have the path to the end
// of W of any stage k before them: the F's behind s, all I's down to k, W of k. The one of them
// that starts an action X on this path first starts it no sooner than the path to it allows; the
// last of them starts it j lengths of X later at least, and has the rest of the path to go. (X on s
// itself: j others run after the end of that F.) So for every k a time of (length of the path after
// F of s) + j * (largest length on it, s included) passes after the end of that F. The same from I
// of s to W of k <= s, and from R of s through I of s.
void BoundProblem::set_paths(const BoundInput& input, int copy) {
  const int stages = input.placement.stages();
  const int first = copy * stages;
  const auto stage = [&](int s) -> BoundStage& { return stages_[at(first + s)]; };
  const auto hop = [&](int s) {  // between s and s + 1
    const int from = stage(s).rank;
    const int to = stage(s + 1).rank;
    if (from == to) return Nanoseconds{0};
    return input.hop ? std::min(input.hop(from, to), input.hop(to, from)) : input.costs.hop;
  };
  for (int s = 0; s < stages; ++s) {
    BoundStage& here = stage(s);
    here.rate[kF] = here.length[kF];
    if (s == 0) continue;
    const BoundStage& before = stage(s - 1);
    here.head[kF] = before.head[kF] + before.delay[kF] + hop(s - 1);
    here.rate[kF] = std::max(here.rate[kF], before.rate[kF]);
  }
  for (int s = stages - 1; s >= 0; --s) {
    BoundStage& here = stage(s);
    const bool last = s == stages - 1;
    const std::size_t kind = last ? kF : kI;
    const BoundStage& before = stage(last ? s : s + 1);
    here.head[kI] = before.head[kind] + before.delay[kind] + (last ? here.recompute : hop(s));
    here.rate[kI] = std::max(here.length[kI], last ? here.recompute_rate() : before.rate[kind]);
    here.head[kW] = here.head[kI] + here.delay[kI];
    here.rate[kW] = std::max(here.rate[kI], here.length[kW]);
  }
  const int most = std::max(0, stage(0).microbatches - 1);
  std::vector<TailLine> lines;
  for (int s = 0; s < stages && !forward_only_; ++s) {
    BoundStage& here = stage(s);
    for (TailLine& line : lines) {
      line.last += stage(s - 1).delay[kI] + hop(s - 1);
      line.later = std::max(line.later, here.length[kI]);
    }
    lines.push_back({here.delay[kW], std::max(here.length[kI], here.length[kW])});
    prune(lines, most);
    here.backward_tail = lines;
  }
  if (forward_only_) lines.push_back({0, 0});
  for (TailLine& line : lines) {
    line.last += stage(stages - 1).recompute + stage(stages - 1).delay[kI];
    line.later = std::max(line.later, stage(stages - 1).recompute);
  }
  for (int s = stages - 1; s >= 0; --s) {
    BoundStage& here = stage(s);
    for (TailLine& line : lines) {
      if (s + 1 < stages) line.last += stage(s + 1).delay[kF] + hop(s);
      line.later = std::max(line.later, here.length[kF]);
    }
    prune(lines, most);
    here.forward_tail = lines;
  }
}

std::vector<TailLine> BoundStage::recompute_tail() const {
  std::vector<TailLine> lines = backward_tail;
  for (TailLine& line : lines) line = {line.last + delay[kI], std::max(line.later, recompute)};
  return lines;
}

}  // namespace plait
