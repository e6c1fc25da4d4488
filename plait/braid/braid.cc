#include "plait/braid/braid.h"

#include <fmt/core.h>

#include <algorithm>

#include "plait/base/check.h"

namespace plait {
namespace {

std::size_t index(int segment) { return static_cast<std::size_t>(segment); }

SegmentOf member_of(SegmentOf of) {
  return of == SegmentOf::kForward ? SegmentOf::kForward : SegmentOf::kBackwardInput;
}

/// The segments that must end before each begins: its needs and its predecessor on its lane.
std::vector<std::vector<int>> all_needs(const Braid& braid) {
  std::vector<std::vector<int>> needs;
  std::array<int, 2> last{-1, -1};
  for (std::size_t s = 0; s < braid.segments.size(); ++s) {
    const BraidSegment& segment = braid.segments[s];
    needs.push_back(segment.needs);
    int& before = last[static_cast<std::size_t>(segment.lane)];
    if (before >= 0) needs.back().push_back(before);
    before = static_cast<int>(s);
  }
  return needs;
}

/// "a waits for b waits for a": a circle among segments that never came up.
Error circle(const Braid& braid, const std::vector<std::vector<int>>& needs,
             const std::vector<bool>& timed) {
  int segment = 0;
  while (timed[index(segment)]) ++segment;
  std::vector<int> path;
  while (std::find(path.begin(), path.end(), segment) == path.end()) {
    path.push_back(segment);
    const std::vector<int>& before = needs[index(segment)];
    segment =
        *std::find_if(before.begin(), before.end(), [&](int one) { return !timed[index(one)]; });
  }
  path.erase(path.begin(), std::find(path.begin(), path.end(), segment));
  path.push_back(segment);
  std::string text;
  for (const int one : path) {
    text += fmt::format("{}{}", text.empty() ? "" : " waits for ", braid.segments[index(one)].name);
  }
  return {ErrorCode::kCheckFailed, "the braid's segments wait in a circle: " + text, "braid"};
}

Expected<void> check_segments(const Braid& braid) {
  const auto count = static_cast<int>(braid.segments.size());
  std::array<bool, kSegmentKinds> seen{};
  for (const BraidSegment& segment : braid.segments) {
    seen[static_cast<std::size_t>(segment.of)] = true;
    if (segment.cost < 0) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("segment {} costs {}, needed 0 or more", segment.name, segment.cost),
                  "braid");
    }
    for (const int need : segment.needs) {
      if (need >= 0 && need < count) {
        const SegmentOf of = braid.segments[index(need)].of;
        if (of != SegmentOf::kBackwardWeight || segment.of == SegmentOf::kBackwardWeight) continue;
        return fail(ErrorCode::kInvalidInput,
                    fmt::format("segment {} needs {}, a segment of W, which not every pair has",
                                segment.name, braid.segments[index(need)].name),
                    "braid");
      }
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("segment {} needs segment {} of {}", segment.name, need, count),
                  "braid");
    }
  }
  if (seen[0] && seen[1]) return {};
  return fail(
      ErrorCode::kInvalidInput,
      fmt::format("the braid has no segment of {}, needed one at least", seen[0] ? "I" : "F"),
      "braid");
}

void extend(BraidMember& member, Lane lane, Nanoseconds begin, Nanoseconds end, bool first) {
  auto& hull = member.on_lane[static_cast<std::size_t>(lane)];
  bool& has = member.has_lane[static_cast<std::size_t>(lane)];
  hull[0] = has ? std::min(hull[0], begin) : begin;
  hull[1] = has ? std::max(hull[1], end) : end;
  has = true;
  member.begin = first ? begin : std::min(member.begin, begin);
  member.end = first ? end : std::max(member.end, end);
}

}  // namespace

Expected<PreparedBraid> PreparedBraid::make(Braid braid) {
  PLAIT_TRY_VOID(check_segments(braid));
  PreparedBraid prepared(std::move(braid));
  const Braid& checked = prepared.braid_;
  const std::vector<std::vector<int>> needs = all_needs(checked);
  const auto count = static_cast<int>(needs.size());
  std::vector<int> missing(needs.size());
  std::vector<std::vector<int>> readers(needs.size());
  for (int s = 0; s < count; ++s) {
    missing[index(s)] = static_cast<int>(needs[index(s)].size());
    for (const int need : needs[index(s)]) readers[index(need)].push_back(s);
  }
  std::vector<bool> timed(needs.size());
  for (int s = 0; s < count; ++s) {
    if (missing[index(s)] == 0) prepared.order_.push_back(s);
  }
  for (std::size_t next = 0; next < prepared.order_.size(); ++next) {
    const int segment = prepared.order_[next];
    timed[index(segment)] = true;
    for (const int reader : readers[index(segment)]) {
      if (--missing[index(reader)] == 0) prepared.order_.push_back(reader);
    }
  }
  if (prepared.order_.size() < needs.size())
    return tl::unexpected<Error>(circle(checked, needs, timed));
  for (const BraidSegment& segment : checked.segments) {
    const bool again = segment.of == SegmentOf::kRecompute;
    prepared.needs_value_.push_back(
        !again && std::none_of(segment.needs.begin(), segment.needs.end(), [&](int need) {
          const SegmentOf of = checked.segments[index(need)].of;
          return of != SegmentOf::kRecompute && member_of(of) == member_of(segment.of);
        }));
  }
  return prepared;
}

BraidTimes PreparedBraid::run(const BraidStart& start, bool whole) const {
  BraidTimes times;
  times.lane_free = start.lane_free;
  std::vector<Nanoseconds> ends(braid_.segments.size());
  bool any = false;
  std::array<bool, 2> any_of{false, false};
  for (const int s : order_) {
    const BraidSegment& segment = braid_.segments[index(s)];
    if (!whole && segment.of == SegmentOf::kBackwardWeight) continue;
    const bool forward = segment.of == SegmentOf::kForward;
    Nanoseconds& free = times.lane_free[static_cast<std::size_t>(segment.lane)];
    Nanoseconds begin = free;
    if (needs_value_[index(s)]) begin = std::max(begin, forward ? start.forward : start.backward);
    if (segment.of == SegmentOf::kRecompute) begin = std::max(begin, start.saved);
    for (const int need : segment.needs) begin = std::max(begin, ends[index(need)]);
    const Nanoseconds end = begin + segment.cost;
    ends[index(s)] = end;
    free = end;
    bool& seen = any_of[forward ? 0 : 1];
    extend(forward ? times.forward : times.backward, segment.lane, begin, end, !seen);
    seen = true;
    times.begin = any ? std::min(times.begin, begin) : begin;
    times.end = any ? std::max(times.end, end) : end;
    any = true;
  }
  return times;
}

}  // namespace plait
