#include "plait/braid/braid_search.h"

#include <fmt/core.h>

#include <algorithm>
#include <random>

#include "plait/braid/layer_clock.h"

namespace plait {
namespace {

using Mask = std::uint64_t;  // segments of a layer
constexpr std::size_t kMostSegments = 64;

Mask bit(int segment) { return Mask{1} << static_cast<unsigned>(segment); }

/// By segment: those that must end before it within the layer, through either lane.
std::vector<Mask> all_before(const LayerBraid& braid, const std::vector<int>& order) {
  std::vector<Mask> before(braid.segments.size());
  for (const int s : order) {
    for (const int need : braid.segments[static_cast<std::size_t>(s)].needs)
      before[static_cast<std::size_t>(s)] |= bit(need) | before[static_cast<std::size_t>(need)];
  }
  return before;
}

/// All orders of some segments in which each stands behind those of them that must end before it.
class Orders {
 public:
  Orders(std::vector<int> members, const std::vector<Mask>& before)
      : members_(std::move(members)), before_(before) {}

  /// Calls `visit` with each, the members' own order first if it is one; stops where it returns
  /// false.
  template <typename Visit>
  bool for_each(Visit&& visit) const {
    Mask left = 0;
    for (const int member : members_) left |= bit(member);
    std::vector<int> order;
    return extend(left, order, visit);
  }

  /// How many there are; most + 1 if there are more than `most`.
  std::int64_t count(std::int64_t most) const {
    std::int64_t orders = 0;
    for_each([&](const std::vector<int>&) { return ++orders <= most; });
    return orders;
  }

 private:
  template <typename Visit>
  bool extend(Mask left, std::vector<int>& order, Visit& visit) const {
    if (left == 0) return visit(std::as_const(order));
    for (const int member : members_) {
      if ((left & bit(member)) == 0) continue;
      if ((before_[static_cast<std::size_t>(member)] & left) != 0) continue;
      order.push_back(member);
      const bool go_on = extend(left & ~bit(member), order, visit);
      order.pop_back();
      if (!go_on) return false;
    }
    return true;
  }

  std::vector<int> members_;
  const std::vector<Mask>& before_;
};

/// Keeps the best orders that it is shown, each once.
class Ranking {
 public:
  explicit Ranking(std::size_t keep) : keep_(keep) {}

  void show(const LaneOrders& lanes, Nanoseconds makespan) {
    if (best_.size() == keep_ && (keep_ == 0 || makespan >= best_.back().makespan)) return;
    const auto place = std::upper_bound(
        best_.begin(), best_.end(), makespan,
        [](Nanoseconds time, const BraidOrder& order) { return time < order.makespan; });
    for (auto same = place; same != best_.begin() && (same - 1)->makespan == makespan; --same)
      if ((same - 1)->lanes == lanes) return;
    best_.insert(place, {lanes, makespan});
    if (best_.size() > keep_) best_.pop_back();
  }
  std::vector<BraidOrder> take() { return std::move(best_); }

 private:
  std::size_t keep_;
  std::vector<BraidOrder> best_;
};

/// Moves one segment to another place in its lane, again and again; keeps what is not slower, and
/// shakes the best where that leads nowhere.
class LocalSearch {
 public:
  LocalSearch(LayerClock& clock, LaneOrders start, const BraidSearchOptions& options)
      : clock_(clock),
        random_(options.seed),
        steps_(options.local_steps),
        now_{std::move(start), 0},
        ranking_(options.keep) {
    now_.makespan = *clock_.run(now_.lanes);
    best_ = now_;
  }

  void run(BraidSearch& result) {
    constexpr int kPatience = 2000;
    constexpr int kShakes = 4;
    ranking_.show(now_.lanes, now_.makespan);
    result.running = 1;
    int idle = 0;
    int shakes = 0;
    for (int step = 0; step < steps_; ++step) {
      BraidOrder next{now_.lanes, 0};
      if (!move_one(next.lanes)) break;
      const auto makespan = clock_.run(next.lanes);
      if (++idle > kPatience) {
        now_ = best_;
        idle = 0;
        shakes = kShakes;
        continue;
      }
      if (!makespan) continue;
      ++result.running;
      next.makespan = *makespan;
      ranking_.show(next.lanes, next.makespan);
      if (shakes == 0 && next.makespan > now_.makespan) continue;
      shakes = std::max(0, shakes - 1);
      if (next.makespan < now_.makespan) idle = 0;
      if (next.makespan < best_.makespan) best_ = next;
      now_ = std::move(next);
    }
    result.best = ranking_.take();
  }

 private:
  std::size_t below(std::size_t limit) { return random_() % limit; }

  /// False if no lane has two segments.
  bool move_one(LaneOrders& lanes) {
    if (lanes[0].size() < 2 && lanes[1].size() < 2) return false;
    std::vector<int>* lane =
        &lanes[below(lanes[0].size() + lanes[1].size()) < lanes[0].size() ? 0 : 1];
    if (lane->size() < 2) lane = lane == &lanes[0] ? &lanes[1] : &lanes[0];
    const std::size_t from = below(lane->size());
    std::size_t to = below(lane->size() - 1);
    if (to >= from) ++to;
    const int segment = (*lane)[from];
    lane->erase(lane->begin() + static_cast<std::ptrdiff_t>(from));
    lane->insert(lane->begin() + static_cast<std::ptrdiff_t>(to), segment);
    return true;
  }

  LayerClock& clock_;
  std::mt19937 random_;
  int steps_;
  BraidOrder now_;
  BraidOrder best_;
  Ranking ranking_;
};

/// The checks and tables that both searches start from.
Expected<std::vector<int>> order_of_known(const LayerBraid& braid) {
  PLAIT_TRY_VOID(lay_out(braid));
  if (braid.segments.size() > kMostSegments) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("a layer has {} segments, a search takes {} at most",
                            braid.segments.size(), kMostSegments),
                "braid");
  }
  for (const LayerSegment& segment : braid.segments) {
    if (!segment.costs.empty()) continue;
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("{} has no cost, a search needs one of each segment", segment.word.text()),
        "braid");
  }
  auto order = order_by_needs(braid.segments);
  if (!order) {
    return fail(ErrorCode::kInvalidInput, "segments of a layer need each other in a circle",
                "braid");
  }
  return *std::move(order);
}

double factorial(std::size_t number) {
  double product = 1;
  for (std::size_t i = 2; i <= number; ++i) product *= static_cast<double>(i);
  return product;
}

}  // namespace

Expected<BraidSearch> search_braid(const LayerBraid& braid, const BraidSearchOptions& options) {
  PLAIT_TRY(const std::vector<int> by_needs, order_of_known(braid));
  const std::vector<Mask> before = all_before(braid, by_needs);
  const Orders compute(braid.lanes[0], before);
  const Orders communication(braid.lanes[1], before);
  BraidSearch result;
  result.orders_of_lane = {factorial(braid.lanes[0].size()), factorial(braid.lanes[1].size())};
  const std::int64_t compute_orders = compute.count(options.most_orders);
  const std::int64_t communication_orders = communication.count(options.most_orders);
  result.exhaustive = compute_orders <= options.most_orders / communication_orders;
  LayerClock clock(braid);
  if (!result.exhaustive) {
    LaneOrders start = braid.lanes;
    if (!clock.run(start)) {
      // One order of all segments by their needs never waits in a circle.
      start = {};
      for (const int s : by_needs) {
        const Lane lane = braid.segments[static_cast<std::size_t>(s)].lane;
        start[static_cast<std::size_t>(lane)].push_back(s);
      }
    }
    LocalSearch(clock, std::move(start), options).run(result);
    return result;
  }
  Ranking ranking(options.keep);
  LaneOrders lanes;
  compute.for_each([&](const std::vector<int>& one) {
    lanes[0] = one;
    return communication.for_each([&](const std::vector<int>& other) {
      lanes[1] = other;
      if (const auto makespan = clock.run(lanes)) {
        ++result.running;
        ranking.show(lanes, *makespan);
      }
      return true;
    });
  });
  result.best = ranking.take();
  return result;
}

Expected<std::optional<OneThreadSearch>> search_one_thread(const LayerBraid& braid,
                                                           std::int64_t most_orders) {
  PLAIT_TRY(const std::vector<int> by_needs, order_of_known(braid));
  const std::vector<Mask> before = all_before(braid, by_needs);
  const Orders orders(by_needs, before);
  OneThreadSearch result;
  LayerClock clock(braid);
  orders.for_each([&](const std::vector<int>& order) {
    const Nanoseconds makespan = *clock.run_one_thread(order);
    const bool first = result.orders == 0;
    if (first) result.listed_makespan = makespan;
    if (first || makespan < result.best_makespan) {
      result.best_makespan = makespan;
      result.best = order;
    }
    result.worst_makespan = std::max(result.worst_makespan, makespan);
    return ++result.orders <= most_orders;
  });
  if (result.orders > most_orders) return std::nullopt;
  return result;
}

}  // namespace plait
