#include "plait/schedule/greedy/order_walk.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>
#include <utility>
#include <vector>

namespace plait {
namespace {

using Node = OrderGraph::Node;

constexpr std::size_t kFurthest = 6;      // positions in one move
constexpr std::uint64_t kAnyOneIn = 50;   // moves of any action
constexpr std::uint64_t kNewPathIn = 64;  // fruitless moves
constexpr std::int64_t kAsk = 1024;       // moves between two questions whether to go on
constexpr std::int64_t kFirstRound = 20'000;
constexpr std::int64_t kFirstRoundPerAction = 16;
constexpr double kWarm = 0.35;  // of an action's mean length
constexpr double kCold = 0.035;
constexpr double kWarmer = 3;

class Walk {
 public:
  Walk(const Schedule& start, const OrderCosts& costs, const WalkLimits& limits)
      : costs_(costs), limits_(limits), best_(start), random_(limits.seed) {
    graph_.emplace(best_, costs_);
    progress_.makespan = graph_->makespan();
    mean_length_ = graph_->mean_length();
  }

  WalkResult run() {
    std::int64_t length =
        kFirstRound + kFirstRoundPerAction * static_cast<std::int64_t>(graph_->size());
    for (bool warmer = false; !over_ && !done(); warmer = !warmer, length += length / 2) {
      graph_.emplace(best_, costs_);
      anneal(std::min(length, limits_.moves - progress_.moves),
             mean_length_ * (warmer ? kWarmer : 1));
      visits_ += graph_->visits();
    }
    return {std::move(best_), progress_};
  }

 private:
  bool done() const {
    return progress_.makespan <= limits_.goal || progress_.moves >= limits_.moves ||
           visits_ + graph_->visits() >= limits_.visits || graph_->size() < 2;
  }

  void anneal(std::int64_t length, double unit) {
    double temperature = 0;
    blocks_.clear();
    Nanoseconds best = progress_.makespan;
    std::vector<std::vector<Node>> best_orders;
    for (std::int64_t step = 0; step < length; ++step) {
      if (step % kAsk == 0) {
        if (done()) break;
        if (limits_.go_on && !limits_.go_on(progress_)) {
          over_ = true;
          break;
        }
        const double part = static_cast<double>(step) / static_cast<double>(length);
        temperature = unit * kWarm * std::pow(kCold / kWarm, part);
      }
      if (progress_.makespan <= limits_.goal || progress_.moves == limits_.moves) break;
      if (blocks_.empty()) find_blocks();
      ++progress_.moves;
      const auto [node, to] = choose();
      if (!graph_->move(node, to, graph_->makespan() + allowance(temperature))) {
        if (random_() % kNewPathIn == 0) blocks_.clear();
        continue;
      }
      ++progress_.kept;
      blocks_.clear();
      if (graph_->makespan() >= best) continue;
      best = graph_->makespan();
      progress_.makespan = best;
      best_orders = graph_->orders();
    }
    if (!best_orders.empty()) best_ = graph_->schedule(best_orders);
  }

  /// How much longer the step may become: Metropolis' rule for the number drawn.
  Nanoseconds allowance(double temperature) {
    constexpr double kStep = 0x1.0p-53;
    const double drawn = (static_cast<double>(random_() >> 11U) + 0.5) * kStep;
    return static_cast<Nanoseconds>(-temperature * std::log(drawn));
  }

  /// Stretches of a longest path on one rank, of two actions at least.
  void find_blocks() {
    graph_->longest_path(random_, path_);
    for (std::size_t begin = 0; begin < path_.size();) {
      std::size_t end = begin + 1;
      while (end < path_.size() && graph_->rank_of(path_[end]) == graph_->rank_of(path_[begin]) &&
             graph_->position_of(path_[end]) == graph_->position_of(path_[end - 1]) + 1)
        ++end;
      if (end - begin > 1) blocks_.emplace_back(begin, end - 1);
      begin = end;
    }
  }

  std::pair<Node, std::size_t> choose() {
    if (blocks_.empty() || random_() % kAnyOneIn == 0) return choose_any();
    const auto [first, last] = blocks_[random_() % blocks_.size()];
    const std::size_t far = 1 + random_() % std::min(last - first, kFurthest);
    const auto position = [&](std::size_t place) { return graph_->position_of(path_[place]); };
    switch (random_() % 4) {
      case 0:
        return {path_[last - far], position(last)};
      case 1:
        return {path_[first + far], position(first)};
      case 2:
        return {path_[last], position(last - far)};
      default:
        return {path_[first], position(first + far)};
    }
  }

  std::pair<Node, std::size_t> choose_any() {
    const auto node = static_cast<Node>(random_() % graph_->size());
    const std::size_t position = graph_->position_of(node);
    const std::size_t last = graph_->orders()[graph_->rank_of(node)].size() - 1;
    const std::size_t far = 1 + random_() % kFurthest;
    if (random_() % 2 == 0) return {node, std::min(position + far, last)};
    return {node, position - std::min(position, far)};
  }

  const OrderCosts& costs_;
  const WalkLimits& limits_;
  Schedule best_;
  std::mt19937_64 random_;
  std::optional<OrderGraph> graph_;
  WalkProgress progress_;
  double mean_length_ = 0;
  std::int64_t visits_ = 0;  // in the rounds before
  bool over_ = false;
  std::vector<Node> path_;
  std::vector<std::pair<std::size_t, std::size_t>> blocks_;  // first and last, in path_
};

}  // namespace

WalkResult walk_orders(const Schedule& start, const OrderCosts& costs, const WalkLimits& limits) {
  return Walk(start, costs, limits).run();
}

Schedule improve_order(Schedule start, const ActionCosts& costs, int activations,
                       Nanoseconds goal) {
  constexpr std::size_t kMostActions = 1'000'000;
  std::size_t actions = 0;
  for (const std::vector<Action>& list : start.ranks) actions += list.size();
  if (actions == 0 || actions > kMostActions) return start;
  OrderCosts order_costs{costs};
  order_costs.caps.assign(start.ranks.size(), activations);
  WalkLimits limits;
  limits.goal = goal;
  limits.moves = 50'000;
  limits.visits = 6'000'000;
  return walk_orders(start, order_costs, limits).schedule;
}

}  // namespace plait
