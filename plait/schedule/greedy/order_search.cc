#include "plait/schedule/greedy/order_search.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace plait {
namespace {

constexpr std::int32_t kNone = -1;
constexpr std::size_t kMaxActions = 1'000'000;
constexpr std::size_t kMaxSwaps = 4'000;
constexpr std::size_t kMaxVisits = 10'000'000;  // of actions, over all swaps
constexpr std::size_t kRemembered = 30;         // makespans

int live_change(ActionType type) {
  if (type == ActionType::kForward) return 1;
  return type == ActionType::kBackwardInput ? 0 : -1;
}

/// One action, with the two it may wait for besides the one before it on its rank.
struct Node {
  Action action;
  std::size_t rank = 0;
  Nanoseconds length = 0;
  Nanoseconds recompute = 0;  // before it, whether its input is there or not
  Nanoseconds delay = 0;      // of what `input` sends
  std::int32_t input = kNone;
  std::int32_t own_forward = kNone;
  std::int32_t reader = kNone;  // on any rank
  Nanoseconds end = 0;
};

class OrderSearch {
 public:
  OrderSearch(const Schedule& schedule, const ActionCosts& costs, int activations)
      : schedule_(schedule), activations_(activations), orders_(schedule.ranks.size()) {
    for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
      for (const Action& action : schedule.ranks[rank]) {
        if (!is_compute(action.type)) continue;
        orders_[rank].push_back(static_cast<std::int32_t>(nodes_.size()));
        const auto stage = static_cast<std::size_t>(action.stage);
        nodes_.push_back({action, rank, length_of(action, costs),
                          passes_gradient(action.type) ? costs.recompute_of(stage) : 0});
      }
    }
    link(costs.hop);
    waiting_.resize(nodes_.size());
    position_.resize(nodes_.size());
    for (const std::vector<std::int32_t>& order : orders_) number(order);
  }

  void run(Nanoseconds goal) {
    Nanoseconds now = evaluate();
    best_ = now;
    best_orders_ = orders_;
    std::vector<Nanoseconds> remembered(kRemembered, now);
    std::mt19937_64 random(1);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same walk every time
    const std::size_t swaps = std::min(kMaxSwaps, kMaxVisits / (nodes_.size() + 1));
    std::vector<std::int32_t> candidates = swappable();
    for (std::size_t step = 0; step < swaps && best_ > goal && !candidates.empty(); ++step) {
      const std::size_t pick = random() % candidates.size();
      const std::int32_t second = candidates[pick];
      swap_with_previous(second);
      const Nanoseconds then = fits(rank_of(second)) ? evaluate() : kImpossible;
      if (then > now && then > remembered[step % kRemembered]) {
        swap_back(second);
        candidates[pick] = candidates.back();
        candidates.pop_back();
        if (candidates.empty()) break;
        continue;
      }
      now = then;
      remembered[step % kRemembered] = now;
      candidates = swappable();
      if (now >= best_) continue;
      best_ = now;
      best_orders_ = orders_;
    }
  }

  Schedule best() const {
    Schedule schedule = schedule_;
    for (std::size_t rank = 0; rank < best_orders_.size(); ++rank) {
      schedule.ranks[rank].clear();
      schedule.ranks[rank].reserve(best_orders_[rank].size());
      for (const std::int32_t id : best_orders_[rank])
        schedule.ranks[rank].push_back(node(id).action);
    }
    return schedule;
  }

 private:
  static constexpr Nanoseconds kImpossible = std::numeric_limits<Nanoseconds>::max();

  Node& node(std::int32_t id) { return nodes_[static_cast<std::size_t>(id)]; }
  const Node& node(std::int32_t id) const { return nodes_[static_cast<std::size_t>(id)]; }
  std::size_t rank_of(std::int32_t id) const { return node(id).rank; }
  std::size_t& position(std::int32_t id) { return position_[static_cast<std::size_t>(id)]; }

  static Nanoseconds length_of(const Action& action, const ActionCosts& costs) {
    const auto stage = static_cast<std::size_t>(action.stage);
    if (action.type == ActionType::kForward) return costs.forward[stage];
    if (action.type == ActionType::kBackwardInput) return costs.backward_input[stage];
    return action.type == ActionType::kBackwardWeight ? costs.backward_weight[stage]
                                                      : costs.backward[stage];
  }

  void link(Nanoseconds hop) {
    const int stages = schedule_.placement.stages();
    const auto microbatches = static_cast<std::size_t>(schedule_.microbatches);
    const std::size_t cells = static_cast<std::size_t>(stages) * microbatches;
    std::vector<std::int32_t> forwards(cells, kNone);
    std::vector<std::int32_t> backwards(cells, kNone);
    const auto cell = [&](int stage, int mb) {
      return static_cast<std::size_t>(stage) * microbatches + static_cast<std::size_t>(mb);
    };
    for (std::size_t id = 0; id < nodes_.size(); ++id) {
      const Action& action = nodes_[id].action;
      const std::size_t at = cell(action.stage, action.microbatch);
      if (action.type == ActionType::kForward) forwards[at] = static_cast<std::int32_t>(id);
      if (passes_gradient(action.type)) backwards[at] = static_cast<std::int32_t>(id);
    }
    for (std::size_t id = 0; id < nodes_.size(); ++id) {
      Node& reader = nodes_[id];
      const int stage = reader.action.stage;
      const int mb = reader.action.microbatch;
      if (reader.action.type == ActionType::kForward) {
        if (stage > 0) reader.input = forwards[cell(stage - 1, mb)];
      } else if (reader.action.type == ActionType::kBackwardWeight) {
        reader.own_forward = backwards[cell(stage, mb)];
      } else {
        reader.own_forward = forwards[cell(stage, mb)];
        if (stage + 1 < stages) reader.input = backwards[cell(stage + 1, mb)];
      }
      if (reader.input == kNone) continue;
      reader.delay = rank_of(reader.input) == reader.rank ? 0 : hop;
      node(reader.input).reader = static_cast<std::int32_t>(id);
    }
  }

  void number(const std::vector<std::int32_t>& order) {
    for (std::size_t at = 0; at < order.size(); ++at) position(order[at]) = at;
  }

  /// Sets the ends of all actions. Returns the makespan, kImpossible if the order cannot finish.
  /// Invariant: an action stands behind its inputs of its own rank; no swap breaks that.
  Nanoseconds evaluate() {
    ready_.clear();
    for (std::size_t id = 0; id < nodes_.size(); ++id) {
      const bool first = position_[id] == 0;
      waiting_[id] =
          static_cast<std::uint8_t>((first ? 0 : 1) + (nodes_[id].input == kNone ? 0 : 1));
      if (waiting_[id] == 0) ready_.push_back(static_cast<std::int32_t>(id));
    }
    std::size_t run = 0;
    Nanoseconds makespan = 0;
    while (!ready_.empty()) {
      const std::int32_t id = ready_.back();
      ready_.pop_back();
      Node& now = node(id);
      now.end = start_of(id) + now.length;
      makespan = std::max(makespan, now.end);
      ++run;
      release(now.reader);
      const std::vector<std::int32_t>& order = orders_[now.rank];
      if (position(id) + 1 < order.size()) release(order[position(id) + 1]);
    }
    return run == nodes_.size() ? makespan : kImpossible;
  }
  void release(std::int32_t id) {
    if (id != kNone && --waiting_[static_cast<std::size_t>(id)] == 0) ready_.push_back(id);
  }

  Nanoseconds start_of(std::int32_t id) {
    const Node& now = node(id);
    const Nanoseconds before =
        (position(id) == 0 ? 0 : node(orders_[now.rank][position(id) - 1]).end) + now.recompute;
    return now.input == kNone ? before : std::max(before, node(now.input).end + now.delay);
  }

  /// Actions of a longest path whose predecessor there is the one before them on their rank, and
  /// that may stand before it.
  std::vector<std::int32_t> swappable() {
    std::vector<std::int32_t> found;
    std::int32_t at = 0;
    for (std::size_t id = 1; id < nodes_.size(); ++id) {
      if (nodes_[id].end > node(at).end) at = static_cast<std::int32_t>(id);
    }
    while (at != kNone) {
      const Node& now = node(at);
      const Nanoseconds start = now.end - now.length;
      const std::int32_t previous = position(at) == 0 ? kNone : orders_[now.rank][position(at) - 1];
      if (previous == kNone || node(previous).end + now.recompute != start) {
        at = now.input;
        continue;
      }
      if (may_swap(previous, at)) found.push_back(at);
      at = previous;
    }
    return found;
  }

  bool may_swap(std::int32_t first, std::int32_t second) const {
    const Node& later = node(second);
    if (later.input == first || later.own_forward == first) return false;
    const Action& a = node(first).action;
    const Action& b = later.action;
    if (a.stage != b.stage) return true;
    return a.type != b.type && !(passes_gradient(a.type) && passes_gradient(b.type));
  }

  void swap_with_previous(std::int32_t id) {
    std::vector<std::int32_t>& order = orders_[rank_of(id)];
    const std::size_t at = position(id);
    std::swap(order[at], order[at - 1]);
    position(order[at]) = at;
    position(order[at - 1]) = at - 1;
  }
  /// Undoes swap_with_previous(id).
  void swap_back(std::int32_t id) { swap_with_previous(orders_[rank_of(id)][position(id) + 1]); }

  bool fits(std::size_t rank) const {
    int live = 0;
    for (const std::int32_t id : orders_[rank]) {
      live += live_change(node(id).action.type);
      if (live > activations_) return false;
    }
    return true;
  }

  const Schedule& schedule_;
  int activations_;
  std::vector<Node> nodes_;
  std::vector<std::vector<std::int32_t>> orders_;  // of nodes, by rank
  std::vector<std::vector<std::int32_t>> best_orders_;
  Nanoseconds best_ = 0;
  std::vector<std::size_t> position_;  // of a node in its rank's order
  std::vector<std::uint8_t> waiting_;
  std::vector<std::int32_t> ready_;
};

}  // namespace

Schedule search_order(Schedule schedule, const ActionCosts& costs, int activations,
                      Nanoseconds goal) {
  std::size_t actions = 0;
  for (const std::vector<Action>& list : schedule.ranks) actions += list.size();
  if (actions == 0 || actions > kMaxActions) return schedule;
  OrderSearch search(schedule, costs, activations);
  search.run(goal);
  return search.best();
}

}  // namespace plait
