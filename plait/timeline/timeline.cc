#include "plait/timeline/timeline.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <utility>

#include "plait/ir/action_text.h"
#include "plait/ir/direction.h"
#include "plait/timeline/compute_ends.h"
#include "plait/timeline/intervals.h"

namespace plait {
namespace {

/// What one rank did and why it did nothing.
struct RankIntervals {
  std::vector<Interval> busy, peer_wait, exposed, transfer;
  Nanoseconds idle_from = std::numeric_limits<Nanoseconds>::min();
};

}  // namespace

double StepMetrics::mean_bubble_share() const {
  double sum = 0;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank)
    sum += bubble_share(static_cast<int>(rank));
  return ranks.empty() ? 0 : sum / static_cast<double>(ranks.size());
}

double StepMetrics::overlap_efficiency() const {
  Nanoseconds transfer = 0, hidden = 0;
  for (const RankMetrics& rank : ranks) {
    transfer += rank.transfer_ns;
    hidden += rank.hidden_comm_ns;
  }
  return transfer == 0 ? 1 : static_cast<double>(hidden) / static_cast<double>(transfer);
}

double StepMetrics::bubble_share(int rank) const {
  if (span_ns == 0) return 0;
  return static_cast<double>(ranks[static_cast<std::size_t>(rank)].bubble_ns) /
         static_cast<double>(span_ns);
}

StepMetrics measure(const Timeline& timeline) {
  StepMetrics metrics;
  metrics.ranks.resize(static_cast<std::size_t>(timeline.ranks));
  std::vector<RankIntervals> intervals(metrics.ranks.size());
  const ComputeEnds ends(timeline);
  Nanoseconds first = std::numeric_limits<Nanoseconds>::max();
  Nanoseconds last = std::numeric_limits<Nanoseconds>::min();
  for (const TimelineEvent& event : timeline.events) {
    first = std::min(first, event.begin);
    last = std::max(last, event.end);
  }
  if (timeline.events.empty()) return metrics;
  for (const TimelineEvent& event : timeline.events) {
    RankIntervals& mine = intervals[static_cast<std::size_t>(event.rank)];
    if (event.lane == Lane::kCommunication) {
      mine.transfer.push_back({event.begin + event.waits_ns, event.end});
      continue;
    }
    mine.busy.push_back({event.begin, event.end});
    const Nanoseconds idle = std::max(mine.idle_from, first);
    const std::optional<Nanoseconds> made =
        ends.find(event.awaited_rank, event.awaited_instruction);
    if (made && idle < event.begin) {
      const Nanoseconds there = std::clamp(*made, idle, event.begin);
      mine.peer_wait.push_back({idle, there});
      mine.exposed.push_back({there, event.begin});
    }
    mine.idle_from = event.end;
  }
  metrics.span_ns = last - first;
  for (std::size_t rank = 0; rank < metrics.ranks.size(); ++rank) {
    RankMetrics& mine = metrics.ranks[rank];
    const std::vector<Interval> ran = unite(std::move(intervals[rank].busy));
    const std::vector<Interval> moved = unite(std::move(intervals[rank].transfer));
    mine.busy_ns = length(ran);
    mine.bubble_ns = metrics.span_ns - mine.busy_ns;
    mine.fill_ns = ran.empty() ? metrics.span_ns : ran.front().first - first;
    mine.drain_ns = ran.empty() ? 0 : last - ran.back().second;
    mine.steady_ns = mine.bubble_ns - mine.fill_ns - mine.drain_ns;
    mine.peer_wait_ns = length(unite(std::move(intervals[rank].peer_wait)));
    mine.exposed_comm_ns = length(unite(std::move(intervals[rank].exposed)));
    mine.transfer_ns = length(moved);
    mine.hidden_comm_ns = common_length(moved, ran);
  }
  return metrics;
}

namespace {

using Json = nlohmann::ordered_json;

/// A message of the step: whether it goes forward, the stage that sends, and the micro-batch.
using MessageName = std::tuple<bool, int, int>;

MessageName name_of_message(const Action& end) {
  return {direction_of(end.type) == Direction::kForward, send_of(end).stage, end.microbatch};
}

/// An arrow from each send to its receive. Several columns send messages of one name; sorted by
/// rank, the n-th send of a name belongs to the n-th receive.
void add_flows(const Timeline& timeline, Nanoseconds first, Json& events) {
  std::map<MessageName, std::array<std::vector<const TimelineEvent*>, 2>> messages;
  for (const TimelineEvent& event : timeline.events) {
    if (!is_communication(event.action.type)) continue;
    messages[name_of_message(event.action)][is_send(event.action.type) ? 0 : 1].push_back(&event);
  }
  int id = 0;
  for (auto& [name, ends] : messages) {
    for (auto& side : ends)
      std::stable_sort(side.begin(), side.end(),
                       [](const auto* a, const auto* b) { return a->rank < b->rank; });
    for (std::size_t i = 0; i < std::min(ends[0].size(), ends[1].size()); ++i, ++id) {
      const auto arrow = [&](const TimelineEvent& event, const char* phase, Nanoseconds at) {
        Json flow = {{"name", "message"},
                     {"cat", "message"},
                     {"ph", phase},
                     {"id", id},
                     {"pid", event.rank},
                     {"tid", static_cast<int>(event.lane)},
                     {"ts", static_cast<double>(at - first) / 1000.0}};
        if (*phase == 'f') flow["bp"] = "e";  // into the receive that is under way, not the next
        events.push_back(std::move(flow));
      };
      arrow(*ends[0][i], "s", ends[0][i]->begin);
      arrow(*ends[1][i], "f", ends[1][i]->end);
    }
  }
}

}  // namespace

std::string print_chrome_trace(const Timeline& timeline) {
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
  for (std::size_t i = 0; i < timeline.events.size(); ++i) {
    const TimelineEvent& event = timeline.events[i];
    Json args = {{"instruction", event.instruction},
                 {"begin_ns", event.begin - first},
                 {"end_ns", event.end - first}};
    if (event.part > 0) args["part"] = event.part;
    if (event.waits_ns > 0) args["waits_ns"] = event.waits_ns;
    if (!timeline.memory.empty() && event.lane == Lane::kCompute) {
      args["peak_bytes"] = timeline.memory[i].peak;
      args["held_bytes"] = timeline.memory[i].after;
    }
    if (event.awaited_instruction >= 0) {
      args["awaited"] = {{"rank", event.awaited_rank}, {"instruction", event.awaited_instruction}};
    }
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
  add_flows(timeline, first, events);
  const bool braided = std::any_of(timeline.events.begin(), timeline.events.end(),
                                   [](const TimelineEvent& event) { return event.braided; });
  Json header = {{"format", "timeline"},
                 {"version", kTimelineVersion},
                 {"pairs", braided ? "braided" : "in sequence"}};
  if (timeline.step > 0) header["step"] = timeline.step;
  for (const ClockOffset& clock : timeline.clocks)
    header["clocks"].push_back({{"offset_ns", clock.offset}, {"error_ns", clock.error}});
  const Json trace = {
      {"plait", std::move(header)}, {"displayTimeUnit", "ns"}, {"traceEvents", std::move(events)}};
  return trace.dump(1) + "\n";
}

}  // namespace plait
