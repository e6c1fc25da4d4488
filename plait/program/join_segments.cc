#include "plait/program/join_segments.h"

#include <map>

namespace plait {

std::string last_word(const std::string& name) { return name.substr(name.rfind('.') + 1); }

bool runs_again(const SegmentShape& segment, const std::set<std::string>& recomputed) {
  return segment.lane == Lane::kCompute && recomputed.contains(segment.word);
}

std::vector<JoinedPart> join_segments(const std::vector<SegmentShape>& segments, int members,
                                      const std::set<std::string>& recomputed) {
  std::vector<JoinedPart> parts;
  bool joins = false;  // the next segment that computes belongs to the last part
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const SegmentShape& segment = segments[i];
    const bool exchange = segment.lane == Lane::kCommunication;
    if (exchange && members == 1) continue;
    if (!joins || exchange) parts.emplace_back();
    JoinedPart& part = parts.back();
    part.segments.push_back(i);
    part.shape.kind = segment.word;
    part.shape.lane = segment.lane;
    part.shape.has_backward = segment.has_backward;
    part.shape.recompute = part.shape.recompute || runs_again(segment, recomputed);
    joins = !exchange;
  }
  std::map<std::string, int> seen;
  for (std::size_t i = 0; i + 1 < parts.size(); ++i)
    parts[i].shape.unit = seen[parts[i].shape.kind]++;
  if (!parts.empty()) parts.back().shape.kind = "tail";
  return parts;
}

}  // namespace plait
