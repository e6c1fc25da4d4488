/// Makes a given order faster by moving actions on its longest path.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>

#include "plait/base/units.h"
#include "plait/ir/schedule.h"
#include "plait/schedule/greedy/order_graph.h"

namespace plait {

struct WalkProgress {
  Nanoseconds makespan = 0;  ///< the least so far
  std::int64_t moves = 0;    ///< tried
  std::int64_t kept = 0;
};

struct WalkLimits {
  static constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

  Nanoseconds goal = 0;  ///< a makespan at which to stop
  std::int64_t moves = kNoLimit;
  std::int64_t visits = kNoLimit;  ///< of actions: about 10 ns each
  std::uint64_t seed = 1;
  std::function<bool(const WalkProgress&)> go_on{};  ///< asked every some thousand moves
};

struct WalkResult {
  Schedule schedule;
  WalkProgress progress;
};

/// Simulated annealing from `start`; returns the best order met, so never a slower one.
///
/// A move takes an action of a longest path that waits for its rank to another place among the
/// actions before or behind it there which follow each other without a pause (the neighbourhood N6
/// of Balas and Vazacopoulos, 1998); one in fifty is of any action, since a cap can forbid all the
/// others. One in eight lets two actions of a type and of two stages change places. Where only the
/// cap forbids a move, an F takes a W that it passed along, a W an F. Micro-batches of a stage stay
/// ascending and every rank keeps its cap. A move that makes the step longer by d is kept with
/// probability exp(-d / T). T falls from about a third of an action's length to a thirtieth, in
/// rounds of growing length that start at the best order so far, every second one three times as
/// warm. The same start, limits and seed give the same order, unless go_on() ends it.
///
/// `start` has compute actions alone, no pairs, can finish and keeps the caps.
/// Cost: O(A) once and for each round; a move as OrderGraph::move().
WalkResult walk_orders(const Schedule& start, const OrderCosts& costs, const WalkLimits& limits);

/// A short walk, of some tens of milliseconds: for generators. None above a million actions.
Schedule improve_order(Schedule start, const ActionCosts& costs, int activations, Nanoseconds goal);

}  // namespace plait
