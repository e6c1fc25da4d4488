#include "plait/braid/layer_braid.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

namespace plait {
namespace {

std::size_t index(int number) { return static_cast<std::size_t>(number); }

tl::unexpected<Error> wrong(std::string message) {
  return fail(ErrorCode::kInvalidInput, std::move(message), "braid");
}

Expected<void> check_segment(const LayerSegment& segment, const LayerBraid& braid) {
  const std::size_t costs = segment.costs.size();
  if (costs > 1 && costs != index(braid.layers)) {
    return wrong(fmt::format("{} has {} costs, needed one, or one for each of {} layers",
                             segment.word.text(), costs, braid.layers));
  }
  for (const Nanoseconds cost : segment.costs) {
    if (cost >= 0 && cost <= kMostSegmentCost) continue;
    return wrong(fmt::format("{} costs {} ns, needs to be from 0 to {}", segment.word.text(), cost,
                             kMostSegmentCost));
  }
  for (const auto* needs : {&segment.needs, &segment.needs_of_layer_before}) {
    for (const int need : *needs) {
      if (need >= 0 && index(need) < braid.segments.size()) continue;
      return wrong(fmt::format("{} needs segment {} of {}", segment.word.text(), need,
                               braid.segments.size()));
    }
  }
  return {};
}

Expected<void> check_lanes(const LayerBraid& braid) {
  std::vector<bool> seen(braid.segments.size());
  for (const Lane lane : {Lane::kCompute, Lane::kCommunication}) {
    for (const int s : braid.lanes[static_cast<std::size_t>(lane)]) {
      if (s < 0 || index(s) >= seen.size())
        return wrong(fmt::format("a lane has segment {} of {}", s, seen.size()));
      const LayerSegment& segment = braid.segments[index(s)];
      if (seen[index(s)]) return wrong(segment.word.text() + " stands twice in the lanes");
      if (segment.lane != lane) return wrong(segment.word.text() + " stands on the other lane");
      seen[index(s)] = true;
    }
  }
  const auto missing = std::find(seen.begin(), seen.end(), false);
  if (missing == seen.end()) return {};
  return wrong(braid.segments[static_cast<std::size_t>(missing - seen.begin())].word.text() +
               " is missing in its lane");
}

}  // namespace

Nanoseconds LayerSegment::cost(int layer) const {
  return costs.empty() ? 0 : costs[costs.size() == 1 ? 0 : index(layer)];
}

bool LayerBraid::has_costs() const {
  return std::none_of(segments.begin(), segments.end(),
                      [](const LayerSegment& segment) { return segment.costs.empty(); });
}

LayerOrder LayerBraid::order() const {
  LayerOrder order;
  for (const int s : lanes[0]) order.compute.push_back(segments[index(s)].word);
  for (const int s : lanes[1]) order.communication.push_back(segments[index(s)].word);
  return order;
}

LayerBraid default_layer_braid() {
  struct Row {
    const char* word;
    Lane lane;
    const char* need;
    bool of_layer_before = false;
  };
  constexpr Lane kCompute = Lane::kCompute;
  constexpr Lane kCommunication = Lane::kCommunication;
  constexpr Row kRows[] = {{"attn.F", kCompute, "combine.F", true},
                           {"counts.F", kCommunication, "attn.F"},
                           {"dispatch.F", kCommunication, "counts.F"},
                           {"mlp.F", kCompute, "dispatch.F"},
                           {"combine.F", kCommunication, "mlp.F"},
                           {"combine.B", kCommunication, "attn.B", true},
                           {"mlp.B", kCompute, "combine.B"},
                           {"mlp.W", kCompute, "mlp.B"},
                           {"dispatch.B", kCommunication, "mlp.B"},
                           {"attn.B", kCompute, "dispatch.B"},
                           {"attn.W", kCompute, "attn.B"}};
  LayerBraid braid;
  braid.layers = 2;  // the least that shows what a layer needs of the one before
  std::map<std::string, int> index_of;
  for (const Row& row : kRows) {
    index_of[row.word] = static_cast<int>(braid.segments.size());
    braid.segments.push_back({*parse_word(row.word), row.lane});
  }
  for (const Row& row : kRows) {
    LayerSegment& segment = braid.segments[index(index_of.at(row.word))];
    auto& needs = row.of_layer_before ? segment.needs_of_layer_before : segment.needs;
    needs.push_back(index_of.at(row.need));
  }
  const LayerOrder order = default_layer_order();
  for (const LayerWord& word : order.compute) braid.lanes[0].push_back(index_of.at(word.text()));
  for (const LayerWord& word : order.communication)
    braid.lanes[1].push_back(index_of.at(word.text()));
  return braid;
}

Expected<LayerBraid> with_recompute(LayerBraid braid, const std::string& kind) {
  const LayerWord again{kind, SegmentOf::kRecompute};
  const LayerWord reader{kind, SegmentOf::kBackwardInput};
  std::vector<int>& lane = braid.lanes[static_cast<std::size_t>(Lane::kCompute)];
  const auto word_is = [&](const LayerWord& word) {
    return [&](int segment) { return braid.segments[index(segment)].word == word; };
  };
  const auto place = std::find_if(lane.begin(), lane.end(), word_is(reader));
  if (place == lane.end())
    return wrong(fmt::format("{} is not on the compute lane, needed to recompute", reader.text()));
  if (std::any_of(lane.begin(), lane.end(), word_is(again)))
    return wrong(fmt::format("{} stands there already", again.text()));
  const auto number = static_cast<int>(braid.segments.size());
  braid.segments[index(*place)].needs.push_back(number);
  braid.segments.push_back({again, Lane::kCompute});
  lane.insert(place, number);
  return braid;
}

LayerBraid with_mean_costs(LayerBraid braid) {
  for (LayerSegment& segment : braid.segments) {
    const auto count = static_cast<Nanoseconds>(segment.costs.size());
    if (count <= 1) continue;
    Nanoseconds sum = 0;
    for (const Nanoseconds cost : segment.costs) sum += cost;
    segment.costs = {(sum + count / 2) / count};
  }
  return braid;
}

LaneOrders lanes_as_listed(const std::vector<LayerSegment>& segments) {
  LaneOrders lanes;
  for (std::size_t s = 0; s < segments.size(); ++s)
    lanes[static_cast<std::size_t>(segments[s].lane)].push_back(static_cast<int>(s));
  return lanes;
}

std::optional<std::vector<int>> order_by_needs(const std::vector<LayerSegment>& segments) {
  std::vector<int> order;
  std::vector<bool> placed(segments.size());
  const auto is_next = [&](std::size_t s) {
    return !placed[s] && std::all_of(segments[s].needs.begin(), segments[s].needs.end(),
                                     [&](int need) { return placed[index(need)]; });
  };
  while (order.size() < segments.size()) {
    std::size_t next = 0;
    while (next < segments.size() && !is_next(next)) ++next;
    if (next == segments.size()) return std::nullopt;
    placed[next] = true;
    order.push_back(static_cast<int>(next));
  }
  return order;
}

Expected<Braid> lay_out(const LayerBraid& braid) {
  for (const LayerSegment& segment : braid.segments) PLAIT_TRY_VOID(check_segment(segment, braid));
  PLAIT_TRY_VOID(check_lanes(braid));
  // Where a layer's segments stand: the compute lane's, then the communication lane's.
  std::vector<int> order = braid.lanes[0];
  order.insert(order.end(), braid.lanes[1].begin(), braid.lanes[1].end());
  const auto width = static_cast<int>(order.size());
  std::vector<int> position(order.size());
  for (int i = 0; i < width; ++i) position[index(order[index(i)])] = i;
  Braid all;
  for (int layer = 0; layer < braid.layers; ++layer) {
    for (const int s : order) {
      const LayerSegment& one = braid.segments[index(s)];
      BraidSegment segment{one.word.text(), one.lane, one.word.of, one.cost(layer), {}};
      if (braid.layers > 1) segment.name += fmt::format(" of layer {}", layer);
      for (const int need : one.needs)
        segment.needs.push_back(layer * width + position[index(need)]);
      for (const int need : one.needs_of_layer_before)
        if (layer > 0) segment.needs.push_back((layer - 1) * width + position[index(need)]);
      all.segments.push_back(std::move(segment));
    }
  }
  return all;
}

}  // namespace plait
