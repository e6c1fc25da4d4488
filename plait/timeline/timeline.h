/// What ran when, predicted or measured: one event per instruction of the ranks' programs.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "plait/base/units.h"
#include "plait/ir/action.h"
#include "plait/ir/lane.h"

namespace plait {

struct TimelineEvent {
  int rank = 0;
  Lane lane = Lane::kCompute;
  int instruction = 0;    ///< index in the rank's program
  Action action;          ///< the action it stems from
  int part = 0;           ///< of the action's stage
  bool braided = false;   ///< the pair's lanes were woven
  int pair = -1;          ///< of a pair's members: the pair's number on its rank
  int awaited_rank = -1;  ///< of a compute event that read a received value: who made the value,
  int awaited_instruction = -1;  ///< and by which instruction of that rank
  Nanoseconds begin = 0;
  Nanoseconds end = 0;
  Nanoseconds waits_ns = 0;  ///< on the communication lane: its first part, in which a peer had not
                             ///< posted its end yet
};

/// The bytes a rank held around an event: activations and scratch.
struct EventMemory {
  Bytes before = 0;
  Bytes peak = 0;  ///< while it ran
  Bytes after = 0;
  friend bool operator==(const EventMemory&, const EventMemory&) = default;
};

/// A rank's clock against rank 0's.
struct ClockOffset {
  Nanoseconds offset = 0;  ///< ahead of rank 0's by this
  Nanoseconds error = 0;   ///< give or take; 0: it is the same clock
};

/// Events of all ranks of one step; each rank's in the order of its program.
struct Timeline {
  int ranks = 0;
  std::vector<TimelineEvent> events;
  int step = 0;                       ///< of a run, from 1; 0: of no run
  std::vector<ClockOffset> clocks{};  ///< by rank, taken from the times already; empty: one clock
  std::vector<EventMemory> memory{};  ///< by event, zeros where nothing computes; empty: unknown
};

/// One rank's figures of a step.
struct RankMetrics {
  Nanoseconds busy_ns = 0;          ///< union of the compute lane's intervals
  Nanoseconds bubble_ns = 0;        ///< the step's span minus busy_ns = fill + steady + drain
  Nanoseconds fill_ns = 0;          ///< before its first compute event
  Nanoseconds steady_ns = 0;        ///< between its compute events
  Nanoseconds drain_ns = 0;         ///< after its last compute event
  Nanoseconds peer_wait_ns = 0;     ///< the part of the bubble in which another rank was still
                                    ///< making the awaited value
  Nanoseconds exposed_comm_ns = 0;  ///< the part in which the value was made already
  Nanoseconds transfer_ns = 0;      ///< union of what its communication takes, waits for peers to
                                    ///< post theirs left out
  Nanoseconds hidden_comm_ns = 0;   ///< the part of it that lies under the rank's compute
};

struct StepMetrics {
  Nanoseconds span_ns = 0;  ///< from the first begin to the last end of any rank's actions
  std::vector<RankMetrics> ranks;
  double bubble_share(int rank) const;  ///< 0 if the span is 0
  double mean_bubble_share() const;     ///< of the pipeline
  /// Of the communication of all ranks the share that lies under compute; 1 if there is none.
  double overlap_efficiency() const;
};

/// Cost: O(n log n) in the events.
StepMetrics measure(const Timeline& timeline);

/// Of the trace that print_chrome_trace() writes and read_timeline() reads.
inline constexpr int kTimelineVersion = 1;

/// Chrome and Perfetto trace JSON: a process per rank, a thread per lane, times in microseconds
/// from the step's first event, a flow from each send to its receive, the clocks' offsets in
/// the header. Pairs are labelled "in
/// sequence" where they ran so.
std::string print_chrome_trace(const Timeline& timeline);

}  // namespace plait
