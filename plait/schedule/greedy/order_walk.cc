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
using Shift = OrderGraph::Shift;
using Moved = OrderGraph::Moved;

constexpr std::size_t kFurthest = 6;      // positions in one move
constexpr std::uint64_t kAnyOneIn = 50;   // moves of any action
constexpr std::uint64_t kSwapOneIn = 8;   // moves of two actions of one type
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
      if (graph_->visits() > 0) graph_.emplace(best_, costs_);  // else it is as it was made
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
      if (!try_one(graph_->makespan() + allowance(temperature))) {
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

  bool try_one(Nanoseconds limit) {
    shifts_.clear();
    if (random_() % kSwapOneIn == 0) {
      add_swap();
    } else {
      shifts_.push_back(choose());
    }
    if (shifts_.empty()) return false;
    Moved moved = graph_->move(shifts_, limit);
    if (moved == Moved::kOverCap && make_room()) moved = graph_->move(shifts_, limit);
    return moved == Moved::kYes;
  }

  Shift choose() {
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

  Shift choose_any() {
    const auto node = static_cast<Node>(random_() % graph_->size());
    const std::size_t position = graph_->position_of(node);
    const std::size_t last = graph_->orders()[graph_->rank_of(node)].size() - 1;
    const std::size_t far = 1 + random_() % kFurthest;
    if (random_() % 2 == 0) return {node, std::min(position + far, last)};
    return {node, position - std::min(position, far)};
  }

  /// An action of the path and the next one of its type and another stage change places, which
  /// leaves what the rank holds as it is.
  void add_swap() {
    if (path_.empty()) return;
    const Node node = path_[random_() % path_.size()];
    const Action& action = graph_->action_of(node);
    const std::vector<Node>& order = graph_->orders()[graph_->rank_of(node)];
    const std::size_t position = graph_->position_of(node);
    const bool up = random_() % 2 == 0;
    for (std::size_t far = 1; far <= 2 * kFurthest; ++far) {
      if (up ? position + far >= order.size() : far > position) return;
      const std::size_t to = up ? position + far : position - far;
      const Action& other = graph_->action_of(order[to]);
      if (other.type != action.type || other.stage == action.stage) continue;
      shifts_.push_back({node, to});
      if (far > 1) shifts_.push_back({order[to], position});
      return;
    }
  }

  /// A forward that went too far forward takes along the first release that it passed; a release
  /// that went too far back the last forward that it passed.
  bool make_room() {
    if (shifts_.size() > 1) return false;
    const auto [node, to] = shifts_.front();
    const std::vector<Node>& order = graph_->orders()[graph_->rank_of(node)];
    const std::size_t from = graph_->position_of(node);
    const auto keeps = [&](std::size_t position) { return graph_->kept_by(order[position]); };
    if (to < from) {
      std::size_t release = to;
      while (release < from && keeps(release) >= 0) ++release;
      if (release == from) return false;
      shifts_ = {{node, to}, {order[release], to}};
      return true;
    }
    std::size_t forward = to;
    while (forward > from && keeps(forward) <= 0) --forward;
    if (forward == from) return false;
    const Node taken = order[forward];
    shifts_ = {{node, to}, {taken, to}};
    return true;
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
  std::vector<Shift> shifts_;
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
