/// Which segments of a stage are one part: the one place that decides it.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "plait/ir/lane.h"
#include "plait/program/part.h"

namespace plait {

/// A segment as its description gives it.
struct SegmentShape {
  std::string word;            ///< last word of its name: "mlp" of "layers.3.mlp"
  Lane lane = Lane::kCompute;  ///< kCommunication: it is an exchange
  bool has_backward = true;    ///< false: an exchange of integers
};

/// "mlp" of "layers.3.mlp".
std::string last_word(const std::string& name);

/// A part, and which of the stage's segments it runs, ascending.
struct JoinedPart {
  PartShape shape;
  std::vector<std::size_t> segments;
};

/// Neighbours that compute are one part, an exchange is one of its own; in a group of one member
/// exchanges are left out. A part's kind is the word of its last segment, "tail" for the last part;
/// its unit counts the parts of that kind before it. A part is recomputed if one of its segments
/// is. `recomputed`: words of segments that compute. Members 2, recomputed {"mlp"}:
///
///   segments  attn mlp  attn  counts  dispatch  mlp   join head
///   parts     attn ---------  counts  dispatch  tail ----------
///   again          x                            x
///
/// Cost: O(segments).
std::vector<JoinedPart> join_segments(const std::vector<SegmentShape>& segments, int members,
                                      const std::set<std::string>& recomputed);

/// Of a segment that computes.
bool runs_again(const SegmentShape& segment, const std::set<std::string>& recomputed);

}  // namespace plait
