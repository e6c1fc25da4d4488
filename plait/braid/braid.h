/// The braid of a pair: segments of its forward and its backward on two lanes, and when they run.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/ir/lane.h"
#include "plait/program/layer_order.h"

namespace plait {

struct BraidSegment {
  std::string name;  ///< unique within the braid, for messages
  Lane lane = Lane::kCompute;
  SegmentOf of = SegmentOf::kForward;
  Nanoseconds cost = 0;
  std::vector<int> needs;  ///< segments that must have ended, indices into the braid
};

/// Segments in the order in which their lanes issue them: each lane runs its own in this order.
struct Braid {
  std::vector<BraidSegment> segments;
};

/// When a pair may begin: its lanes, and the values that its members read. A segment that needs no
/// other segment of its own member needs the member's value, also one that needs R's alone; R's own
/// need what the backward's forward saved.
struct BraidStart {
  std::array<Nanoseconds, 2> lane_free{0, 0};  ///< by Lane
  Nanoseconds forward = 0;
  Nanoseconds backward = 0;
  Nanoseconds saved = 0;
};

/// From the first begin to the last end on each lane (empty: begin > end) and of all.
struct BraidMember {
  std::array<std::array<Nanoseconds, 2>, 2> on_lane{};  ///< by Lane: begin and end
  std::array<bool, 2> has_lane{false, false};           ///< by Lane
  Nanoseconds begin = 0;
  Nanoseconds end = 0;  ///< its result is there: the end of its last segment
};

struct BraidTimes {
  BraidMember forward;
  BraidMember backward;
  std::array<Nanoseconds, 2> lane_free{0, 0};  ///< by Lane, after the pair
  Nanoseconds begin = 0;
  Nanoseconds end = 0;
};

/// A braid that has been checked, with its segments in an order in which they can be timed.
///
/// A segment starts when it heads its lane and what it needs has ended.
class PreparedBraid {
 public:
  /// Errors: no segment of F or of I; a need that is not there; segments that wait for each other
  /// in a circle, through needs and lane orders (the circle is named; kCheckFailed). Cost:
  /// O(segments + needs).
  static Expected<PreparedBraid> make(Braid braid);

  /// `whole`: the backward is a B; otherwise an I, and W's segments take no part. Cost: O(segments
  /// + needs). Thread-safe.
  BraidTimes run(const BraidStart& start, bool whole) const;

  const Braid& braid() const { return braid_; }

 private:
  explicit PreparedBraid(Braid braid) : braid_(std::move(braid)) {}

  Braid braid_;
  std::vector<int> order_;         // every segment after its needs and its lane's predecessor
  std::vector<bool> needs_value_;  // of its member
};

}  // namespace plait
