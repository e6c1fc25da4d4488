/// The order of every rank as a graph with its longest paths, kept up to date from move to move.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "plait/base/units.h"
#include "plait/ir/costs.h"
#include "plait/ir/schedule.h"

namespace plait {

/// What a walk over orders minimises under: times, and what each rank may hold.
struct OrderCosts {
  /// What an action adds to what its rank holds: `peak` while it runs, `kept` from its end on.
  struct Hold {
    std::int64_t peak = 0;
    std::int64_t kept = 0;
  };

  ActionCosts actions;
  /// Delay of a value between two ranks; empty: actions.hop.
  std::function<Nanoseconds(int from, int to)> hop{};
  /// By compute_index() and stage; empty: one activation from F to W or B.
  std::array<std::vector<Hold>, 4> holds{};
  std::vector<std::int64_t> caps{};  ///< by rank, in the unit of `holds`

  Nanoseconds delay(int from, int to) const {
    if (from == to) return 0;
    return hop ? hop(from, to) : actions.hop;
  }
  Hold hold(const Action& action) const;
};

/// The first rank that holds more than its cap, -1 if none does.
int first_over_cap(const Schedule& schedule, const OrderCosts& costs);

/// Longest paths from the step's start to every action and from there to its end.
///
/// A node is a compute action. It starts when the one before it on its rank has ended and its input
/// is there; what it recomputes runs before it. `head` is the start, `tail` the longest path from
/// its end to the end of the step. Nodes stand in a topological order of their own, so that a move
/// changes only what comes behind it (heads) and before it (tails).
class OrderGraph {
 public:
  using Node = std::int32_t;
  static constexpr Node kNone = -1;

  /// The lists have compute actions alone and can finish. Cost: O(A).
  OrderGraph(const Schedule& schedule, const OrderCosts& costs);

  std::size_t size() const { return nodes_.size(); }
  Nanoseconds makespan() const { return makespan_; }
  const std::vector<std::vector<Node>>& orders() const { return orders_; }
  std::size_t rank_of(Node node) const { return at(node).rank; }
  std::size_t position_of(Node node) const { return at(node).position; }
  const Action& action_of(Node node) const { return at(node).action; }
  Nanoseconds end_of(Node node) const { return at(node).head + at(node).length; }
  /// What its rank holds more once it has run.
  std::int64_t kept_by(Node node) const { return at(node).hold.kept; }
  /// The longest path from its end to the end of the step.
  Nanoseconds tail_of(Node node) const { return at(node).tail; }

  struct Shift {
    Node node = kNone;
    std::size_t to = 0;  ///< position in its rank's list
  };
  enum class Moved : std::uint8_t {
    kYes,
    kNo,
    kOverCap,  ///< no: the rank would hold too much
  };

  /// Shifts nodes of one rank, one after the other, to other positions of its list, if none passes
  /// what it depends on or what depends on it, the rank keeps its cap afterwards and the makespan
  /// is not above `limit`. Otherwise everything stays as it was. Cost: what changes.
  Moved move(std::span<const Shift> shifts, Nanoseconds limit);

  /// The nodes of a longest path, from the first to the last; where there are several, `random`
  /// chooses.
  template <typename Random>
  void longest_path(Random& random, std::vector<Node>& path) const;

  /// With these orders of the nodes, by rank.
  Schedule schedule(const std::vector<std::vector<Node>>& orders) const;

  double mean_length() const;
  /// Times of nodes computed so far: a measure of work that is the same on every machine.
  std::int64_t visits() const { return visits_; }

 private:
  struct State {
    Action action;
    std::uint32_t rank = 0;
    Node input = kNone;
    Node reader = kNone;
    std::uint32_t position = 0;
    std::uint32_t topological = 0;
    Nanoseconds length = 0;
    Nanoseconds recompute = 0;
    Nanoseconds delay = 0;  // of what `input` sends
    Nanoseconds head = 0;
    Nanoseconds tail = 0;
    std::int64_t held = 0;  // by the rank before it
    OrderCosts::Hold hold{};
  };
  struct Changed {
    Node node;
    Nanoseconds head;
  };

  State& at(Node node) { return nodes_[static_cast<std::size_t>(node)]; }
  const State& at(Node node) const { return nodes_[static_cast<std::size_t>(node)]; }
  Node before(const State& state) const {
    return state.position == 0 ? kNone : orders_[state.rank][state.position - 1];
  }
  Node after(const State& state) const {
    const std::vector<Node>& order = orders_[state.rank];
    return state.position + 1 == order.size() ? kNone : order[state.position + 1];
  }
  void link(const OrderCosts& costs);
  void sort();
  bool depends(Node first, Node second) const;
  bool may_pass(Node node, std::size_t from, std::size_t to) const;
  bool fits(std::size_t rank, std::size_t first, std::size_t last) const;
  void set_held(std::size_t rank, std::size_t first, std::size_t last);
  void rotate(std::size_t rank, std::size_t from, std::size_t to);
  bool reorder_before(Node later, Node earlier);
  bool reorder_after(Node earlier, Node later);
  bool shift(const Shift& shift);
  void undo_shifts();
  void save_region(std::size_t first, std::size_t last);
  void put_region(std::size_t first);
  Nanoseconds head_of(const State& state) const;
  Nanoseconds tail_of(const State& state) const;
  Nanoseconds last_end() const;
  bool update_heads(std::size_t first, std::size_t last, Nanoseconds limit);
  void update_tails();
  void mark(Node node) {
    const std::uint32_t place = at(node).topological;
    dirty_[place >> 6] |= std::uint64_t{1} << (place & 63);
  }

  Schedule empty_;
  std::vector<std::int64_t> caps_;
  std::vector<State> nodes_;
  std::vector<std::vector<Node>> orders_;  // by rank
  std::vector<Node> sorted_;               // topologically
  std::vector<std::uint64_t> dirty_;       // by place in sorted_
  std::vector<Changed> changed_;
  struct Done {
    Node node;
    std::size_t from;
    std::size_t region_begin;  // of sorted_
    std::size_t region_saved;  // in saved_
    std::size_t region_size;
  };
  std::vector<Done> done_;    // shifts of the move in progress
  std::vector<Node> saved_;   // their regions of sorted_, as they were
  std::vector<Node> moved_;   // of the region
  std::vector<Node> others_;  // of the region
  std::vector<std::uint8_t> marked_;
  Nanoseconds makespan_ = 0;
  std::int64_t visits_ = 0;
};

template <typename Random>
void OrderGraph::longest_path(Random& random, std::vector<Node>& path) const {
  path.clear();
  Node node = kNone;
  std::size_t ties = 0;
  for (const std::vector<Node>& order : orders_) {
    if (order.empty()) continue;
    const State& last = at(order.back());
    if (last.head + last.length == makespan_ && random() % ++ties == 0) node = order.back();
  }
  while (node != kNone) {
    path.push_back(node);
    const State& now = at(node);
    const Node previous = before(now);
    const Nanoseconds free = (previous == kNone ? 0 : end_of(previous)) + now.recompute;
    const bool by_rank = free == now.head;
    const bool by_input =
        now.input != kNone && at(now.input).head + at(now.input).length + now.delay == now.head;
    node = by_rank && (!by_input || random() % 2 == 0) ? previous : now.input;
  }
  std::reverse(path.begin(), path.end());
}

}  // namespace plait
