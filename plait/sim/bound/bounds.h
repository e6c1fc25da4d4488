/// Certified lower bounds of a step's makespan: no order of the actions can be faster.
///
/// They hold for every schedule of a placement, whatever its order, with I and W apart or as B,
/// with pairs or without; those with a cap for every schedule that keeps it. Makespan is the time
/// from the first F's start to the last action's end. Sources: the one-machine problem with heads
/// and tails (J. R. Jackson, 1955; J. Carlier, 1982) and Little's law; the rest is derived, with
/// its proof above each function in bounds.cc and bound_search.cc. docs/bounds.md tells which is
/// tight when. All functions are thread-safe and deterministic.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/ir/action.h"
#include "plait/ir/costs.h"
#include "plait/ir/schedule.h"
#include "plait/sim/cost_model.h"

namespace plait {

/// The least time a rank needs for a pair of an F of one stage and a B (or I) of another, which it
/// holds too. The pair needs both inputs when it starts and has both results when it ends.
using PairCost = std::function<Nanoseconds(int forward_stage, int backward_stage, ActionType)>;

struct BoundInput {
  Placement placement;
  int microbatches = 0;  ///< M, of all copies together
  ActionCosts costs;
  /// The least delay of a message between two ranks; empty: costs.hop.
  std::function<Nanoseconds(int from, int to)> hop{};
  bool forward_only = false;    ///< no backward runs
  bool whole_backward = false;  ///< only schedules that never run I and W apart
  /// Cap of each rank in stage activations, held from the start of F to the end of W or B.
  /// Empty: none.
  std::vector<int> activations{};
  PairCost pair{};  ///< empty: F + B, or more
  /// What the segments of F, I, W and R in a braided pair take of the compute lane.
  std::optional<std::array<Nanoseconds, kSegmentKinds>> braid{};
};

/// The input for all schedules with the placement, micro-batches and costs of `schedule`, no cap.
BoundInput bound_input(const Schedule& schedule, const CostModel& costs);

struct Bound {
  Nanoseconds makespan = 0;  ///< no schedule is faster
  std::string_view name;     ///< of the bound: "work", "one-machine", "capped", "residence", …
  int rank = -1;             ///< whose work gives it

  friend bool operator==(const Bound&, const Bound&) = default;
};

/// The least time left after an action that j later ones of its kind and stage follow: a + j*b.
struct TailLine {
  Nanoseconds last = 0;   ///< a
  Nanoseconds later = 0;  ///< b
};

/// One stage of one copy as the bounds see it. Delays are the least time from an action's start to
/// its result, lengths the least time it takes its rank; they differ only where pairs may run.
struct BoundStage {
  int rank = 0;
  int microbatches = 0;                 ///< of its copy
  std::array<Nanoseconds, 3> delay{};   ///< of F, I, W
  std::array<Nanoseconds, 3> length{};  ///< of F, I, W
  std::array<Nanoseconds, 3> head{};    ///< earliest start of the first F, I, W
  std::array<Nanoseconds, 3> rate{};    ///< the next starts that much later, at least
  Nanoseconds recompute =
      0;  ///< R, after F and before I: of its rank, and on the last stage a delay
  std::vector<TailLine> forward_tail{};
  std::vector<TailLine> backward_tail{};  ///< of I; that of W is 0

  // Of R, which follows F on its rank and precedes the same micro-batch's I.
  Nanoseconds recompute_head() const { return head[0] + delay[0]; }
  Nanoseconds recompute_rate() const { return std::max(rate[0], recompute); }
  std::vector<TailLine> recompute_tail() const;
};

/// A checked input with the longest paths to and from every action: what all bounds start from.
class BoundProblem {
 public:
  /// Errors: M or P below 1, costs or caps that do not fit the placement, a negative cost, a cap
  /// that lets no micro-batch through, a sum of costs beyond 2^60 ns. Cost: O(S) for few different
  /// costs, O(S V) with pairs.
  static Expected<BoundProblem> make(const BoundInput& input);

  int ranks() const { return static_cast<int>(stages_of_.size()); }
  int copies() const { return copies_; }
  bool forward_only() const { return forward_only_; }
  const std::vector<BoundStage>& stages() const { return stages_; }  ///< copy by copy
  /// Indices into stages() of one rank's.
  const std::vector<int>& stages_of(int rank) const {
    return stages_of_[static_cast<std::size_t>(rank)];
  }
  /// 0: none.
  int activations(int rank) const {
    return activations_.empty() ? 0 : activations_[static_cast<std::size_t>(rank)];
  }

 private:
  BoundProblem() = default;
  void set_lengths(const BoundInput& input);
  void set_paths(const BoundInput& input, int copy);

  std::vector<BoundStage> stages_;
  std::vector<std::vector<int>> stages_of_;
  std::vector<int> activations_;
  int copies_ = 1;
  bool forward_only_ = false;
};

/// A rank's work after the earliest moment it can start. Cost: O(S).
Bound work_bound(const BoundProblem& problem);

/// Each rank's actions as jobs that are released and followed by other ranks' work. Cost:
/// O(S V min(M, 1000)); above 520 micro-batches neighbours in the middle count as one job.
Bound one_machine_bound(const BoundProblem& problem);

/// A rank's work and the idle time its cap forces before the first I and after the last F. 0 where
/// no cap binds. Cost: O(S log V).
Bound capped_bound(const BoundProblem& problem);

/// How long activations live, divided by how many may. 0 without caps. Cost: O(S).
Bound residence_bound(const BoundProblem& problem);

/// What one_rank_relaxation() may spend.
struct SearchLimit {
  std::int64_t nodes = 100000;  ///< of one question "can this rank be done by then?"
  int actions = 2048;           ///< ranks with more are not searched
};

struct RelaxationBound {
  Bound bound;        ///< "one-rank", or the best of the others if that is not less
  bool exact = true;  ///< the relaxation's optimum; false: what was proven before the limit
};

/// One rank's order, cap and waiting exactly, all other ranks as delays; the largest over ranks.
/// The tightest of all where a cap is low. Cost: exponential in the worst case, about 10 us a node,
/// a logarithm of questions a rank.
RelaxationBound one_rank_relaxation(const BoundProblem& problem, const SearchLimit& limit = {});

/// The largest of the four, the first of equal ones.
Bound best_bound(const BoundProblem& problem);
Expected<Bound> best_bound(const BoundInput& input);

}  // namespace plait
