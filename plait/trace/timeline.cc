#include "plait/trace/timeline.h"

#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "plait/ir/action_text.h"

namespace plait {
namespace {

using Interval = std::pair<Nanoseconds, Nanoseconds>;

/// Sorted and disjoint.
std::vector<Interval> unite(std::vector<Interval> intervals) {
  std::sort(intervals.begin(), intervals.end());
  std::vector<Interval> united;
  for (const Interval& interval : intervals) {
    if (!united.empty() && interval.first <= united.back().second) {
      united.back().second = std::max(united.back().second, interval.second);
    } else {
      united.push_back(interval);
    }
  }
  return united;
}

Nanoseconds length(const std::vector<Interval>& intervals) {
  Nanoseconds sum = 0;
  for (const auto& [begin, end] : intervals) sum += end - begin;
  return sum;
}

}  // namespace

double StepMetrics::bubble_share(int rank) const {
  if (span_ns == 0) return 0;
  return static_cast<double>(ranks[static_cast<std::size_t>(rank)].bubble_ns) /
         static_cast<double>(span_ns);
}

StepMetrics measure(const Timeline& timeline) {
  StepMetrics metrics;
  metrics.ranks.resize(static_cast<std::size_t>(timeline.ranks));
  std::vector<std::vector<Interval>> busy(metrics.ranks.size());
  std::vector<std::vector<Interval>> exposed(metrics.ranks.size());
  std::vector<Nanoseconds> idle_from(metrics.ranks.size(), std::numeric_limits<Nanoseconds>::min());
  std::map<std::pair<int, int>, Nanoseconds> ends;
  Nanoseconds first = std::numeric_limits<Nanoseconds>::max();
  Nanoseconds last = std::numeric_limits<Nanoseconds>::min();
  for (const TimelineEvent& event : timeline.events) {
    first = std::min(first, event.begin);
    last = std::max(last, event.end);
    if (event.lane == Lane::kCompute) ends[{event.rank, event.instruction}] = event.end;
  }
  if (timeline.events.empty()) return metrics;
  for (const TimelineEvent& event : timeline.events) {
    if (event.lane != Lane::kCompute) continue;
    const auto rank = static_cast<std::size_t>(event.rank);
    busy[rank].push_back({event.begin, event.end});
    const auto made = ends.find({event.awaited_rank, event.awaited_instruction});
    if (made != ends.end()) {
      const Nanoseconds from = std::max({idle_from[rank], made->second, first});
      if (from < event.begin) exposed[rank].push_back({from, event.begin});
    }
    idle_from[rank] = event.end;
  }
  metrics.span_ns = last - first;
  for (std::size_t rank = 0; rank < metrics.ranks.size(); ++rank) {
    metrics.ranks[rank].busy_ns = length(unite(std::move(busy[rank])));
    metrics.ranks[rank].bubble_ns = metrics.span_ns - metrics.ranks[rank].busy_ns;
    metrics.ranks[rank].exposed_comm_ns = length(unite(std::move(exposed[rank])));
  }
  return metrics;
}

std::string print_chrome_trace(const Timeline& timeline) {
  using Json = nlohmann::ordered_json;
  Nanoseconds first = std::numeric_limits<Nanoseconds>::max();
  for (const TimelineEvent& event : timeline.events) first = std::min(first, event.begin);
  Json events = Json::array();
  for (int rank = 0; rank < timeline.ranks; ++rank) {
    events.push_back({{"name", "process_name"},
                      {"ph", "M"},
                      {"pid", rank},
                      {"args", {{"name", "rank " + std::to_string(rank)}}}});
    for (std::size_t lane = 0; lane < kLaneNames.size(); ++lane) {
      events.push_back({{"name", "thread_name"},
                        {"ph", "M"},
                        {"pid", rank},
                        {"tid", static_cast<int>(lane)},
                        {"args", {{"name", kLaneNames[lane]}}}});
    }
  }
  for (const TimelineEvent& event : timeline.events) {
    Json args = {{"instruction", event.instruction},
                 {"begin_ns", event.begin - first},
                 {"end_ns", event.end - first}};
    if (event.part > 0) args["part"] = event.part;
    if (event.pair >= 0)
      args["pair"] = std::to_string(event.pair) + (event.braided ? ", braided" : ", in sequence");
    events.push_back({{"name", print_action(event.action)},
                      {"cat", kLaneNames[static_cast<std::size_t>(event.lane)]},
                      {"ph", "X"},
                      {"pid", event.rank},
                      {"tid", static_cast<int>(event.lane)},
                      {"ts", static_cast<double>(event.begin - first) / 1000.0},
                      {"dur", static_cast<double>(event.end - event.begin) / 1000.0},
                      {"args", std::move(args)}});
  }
  const bool braided = std::any_of(timeline.events.begin(), timeline.events.end(),
                                   [](const TimelineEvent& event) { return event.braided; });
  const Json trace = {
      {"plait",
       {{"format", "timeline"}, {"version", 1}, {"pairs", braided ? "braided" : "in sequence"}}},
      {"displayTimeUnit", "ns"},
      {"traceEvents", std::move(events)}};
  return trace.dump(1) + "\n";
}

}  // namespace plait
