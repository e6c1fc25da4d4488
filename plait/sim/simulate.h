/// simulate(): how long a proven schedule takes under given costs, and what it holds in memory.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/sim/cost_model.h"
#include "plait/timeline/timeline.h"
#include "plait/verify/verify.h"

namespace plait {

/// The most that a rank holds at once, and the action at whose begin or end it does so first.
struct MemoryPeak {
  std::int64_t amount = 0;  ///< stage activations, or bytes
  int position = -1;        ///< in the rank's list, pair headers counted; -1: before any action
  Action action{};
  Nanoseconds time = 0;
};

struct RankPrediction {
  Nanoseconds first_begin = 0;  ///< of its compute lane
  Nanoseconds last_end = 0;
  Nanoseconds busy_ns = 0;   ///< union of the compute lane's intervals
  Nanoseconds idle_ns = 0;   ///< makespan - busy = fill + steady + drain
  Nanoseconds fill_ns = 0;   ///< before its first compute action
  Nanoseconds drain_ns = 0;  ///< after its last
  Nanoseconds steady_ns = 0;
  /// The part of idle_ns in which all that the next action waits for was made: waiting for bytes.
  Nanoseconds exposed_comm_ns = 0;
  MemoryPeak peak_activations;  ///< an activation is held from F's begin to W's or B's end
  MemoryPeak peak_bytes;        ///< all zero if the cost model has no bytes
};

/// One step of the longest chain of actions, each of which kept the next from beginning earlier.
/// What an I or a B recomputes is a step before its own.
struct CriticalStep {
  int rank = 0;
  int position = 0;  ///< of its first action in the rank's list
  Action action{};   ///< a pair's header where a pair is one
  Nanoseconds begin = 0;
  Nanoseconds end = 0;
  Nanoseconds wait = 0;  ///< between the step before and this one: a value was on its way
};

struct Prediction {
  Nanoseconds makespan_ns = 0;  ///< from the first begin to the last end of any action
  Nanoseconds span_ns = 0;      ///< the longest a single rank takes from its first to its last
  double pair_coverage = 0;     ///< forwards inside a pair, of all forwards
  std::vector<RankPrediction> ranks;
  std::vector<CriticalStep> critical_path;  ///< in time order; empty unless asked for
  std::optional<Timeline> timeline;         ///< unless asked for, none
};

struct SimulateOptions {
  bool keep_timeline = false;  ///< 72 bytes for each action
  bool critical_path = false;  ///< 24 bytes for each compute action while it runs
};

/// Times every action and accounts for every rank.
///
/// Each rank runs its list in order on its compute lane. Without a network a value delays its
/// reader by `actions.hop` after the producer's end if it crosses ranks, so a schedule gives the
/// same result lowered or not; sends and receives take no time. With a network the schedule must be
/// lowered: a rank's communication lane posts its messages in list order, a send once its value is
/// made; a message starts when both ends are posted and it heads the queue of its directed link,
/// which it occupies for `transfer`; only its reader waits for it.
///
/// UNSHARD and REDUCE_GRAD are posted by the communication lane too, UNSHARD once the RESHARDs
/// before it in the list have ended, REDUCE_GRAD once all compute before it has. They occupy the
/// rank's link to its replicas, one after the other; the lane goes on. The compute of a stage waits
/// for its last UNSHARD. RESHARD runs on the compute lane.
///
/// Where a stage recomputes, an I or a B by itself begins with that as soon as its lane is free,
/// whether its gradient is there or not; on the timeline it is an event of its own, as it is an
/// instruction of its own in the runtime. In a pair as a block it is part of the block, in a braid
/// it is R's segments.
///
/// All of it is the longest path through a graph without cycles (that is what verify() proved), so
/// there is no event queue: ranks are advanced as far as their inputs are known.
///
/// Errors: those of check_cost_model; a network with a schedule that is not lowered; replicas with
/// one that has neither UNSHARD nor REDUCE_GRAD. Cost: O(A)
/// time for A actions, memory 16 bytes for each (stage, micro-batch), 32 with a network, and what
/// the options ask for. Thread-safe.
Expected<Prediction> simulate(const VerifiedSchedule& schedule, const CostModel& costs,
                              const SimulateOptions& options = {});

}  // namespace plait
