#include "plait/program/pair_order.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <optional>

namespace plait {
namespace {

using Parts = std::vector<PartShape>;
using Steps = std::vector<PairStep>;

std::size_t index(int number) { return static_cast<std::size_t>(number); }
std::size_t index(Lane lane) { return static_cast<std::size_t>(lane); }

constexpr Lane kOtherLane[] = {Lane::kCommunication, Lane::kCompute};

tl::unexpected<Error> wrong(std::string message) {
  return fail(ErrorCode::kInvalidInput, std::move(message), "layer order");
}

/// Which step of a pair must have ended, and what its lanes hold.
class Pair {
 public:
  Pair(const Parts& forward, const Parts& backward, bool whole)
      : forward_(forward), backward_(backward), whole_(whole) {}

  const Parts& parts(SegmentOf of) const {
    return of == SegmentOf::kForward ? forward_ : backward_;
  }
  const PartShape& part(const PairStep& step) const { return parts(step.of)[index(step.part)]; }

  /// Puts a step on its part's lane; a step that does not run is left out.
  void add(SegmentOf of, int part) {
    const PartShape& shape = parts(of)[index(part)];
    if (of != SegmentOf::kForward && !shape.has_backward) return;
    if (of == SegmentOf::kBackwardWeight && (!whole_ || shape.lane != Lane::kCompute)) return;
    if (of == SegmentOf::kRecompute && !shape.recompute) return;
    lanes_[index(shape.lane)].push_back({of, part});
  }
  void add_backward(int part) {
    add(SegmentOf::kRecompute, part);
    add(SegmentOf::kBackwardInput, part);
    add(SegmentOf::kBackwardWeight, part);
  }

  /// Joins the lanes: each time the communication lane's head if what it needs has been issued,
  /// else the compute lane's. An exchange so starts as soon as it can.
  Expected<PairOrder> join() {
    PairOrder joined;
    std::array<std::size_t, 2> next{0, 0};
    for (std::size_t of = 0; of < issued_.size(); ++of)
      issued_[of].assign(parts(static_cast<SegmentOf>(of)).size(), false);
    const auto is_ready = [&](Lane lane) {
      return next[index(lane)] < lanes_[index(lane)].size() &&
             !missing_for(lanes_[index(lane)][next[index(lane)]]);
    };
    while (joined.size() < lanes_[0].size() + lanes_[1].size()) {
      const Lane lane = is_ready(Lane::kCommunication) ? Lane::kCommunication : Lane::kCompute;
      if (!is_ready(lane)) return circle(next);
      const PairStep step = lanes_[index(lane)][next[index(lane)]++];
      issued_[static_cast<std::size_t>(step.of)][index(step.part)] = true;
      joined.push_back(step);
    }
    return joined;
  }

 private:
  /// What a step needs and has not been issued. What a recompute needs was saved before the pair.
  std::optional<PairStep> missing_for(const PairStep& step) const {
    const auto if_missing = [&](const PairStep& need) {
      const bool issued = issued_[static_cast<std::size_t>(need.of)][index(need.part)];
      return issued ? std::nullopt : std::optional(need);
    };
    if (step.of == SegmentOf::kRecompute) return std::nullopt;
    if (step.of == SegmentOf::kBackwardWeight)
      return if_missing({SegmentOf::kBackwardInput, step.part});
    if (step.of == SegmentOf::kForward) {
      if (step.part == 0) return std::nullopt;
      return if_missing({SegmentOf::kForward, step.part - 1});
    }
    if (part(step).recompute) {
      if (const auto again = if_missing({SegmentOf::kRecompute, step.part})) return again;
    }
    for (std::size_t before = index(step.part) + 1; before < backward_.size(); ++before) {
      if (backward_[before].has_backward)
        return if_missing({SegmentOf::kBackwardInput, static_cast<int>(before)});
    }
    return std::nullopt;
  }

  std::string name(const PairStep& step) const {
    const PartShape& shape = part(step);
    const std::string word = LayerWord{shape.kind, step.of}.text();
    return shape.unit < 0 ? word : fmt::format("{} of layer {}", word, shape.unit);
  }

  /// No lane's head can run. Each waits for a step that stands in a lane behind that lane's head:
  /// from head to head that leads back to one.
  tl::unexpected<Error> circle(const std::array<std::size_t, 2>& next) const {
    const auto waits = [&](Lane lane) {
      const PairStep& head = lanes_[index(lane)][next[index(lane)]];
      return std::pair{head, *missing_for(head)};
    };
    const auto leads_to = [&](Lane lane) { return part(waits(lane).second).lane; };
    // One step from any lane leads onto the circle, which has one lane or both.
    const Lane lane = leads_to(next[0] < lanes_[0].size() ? Lane::kCompute : Lane::kCommunication);
    std::string text;
    for (Lane at = lane; text.empty() || at != lane; at = leads_to(at)) {
      const auto [head, need] = waits(at);
      const PairStep in_front = waits(part(need).lane).first;
      text += fmt::format("{}{} waits for {}", text.empty() ? "" : "; ", name(head), name(need));
      if (in_front != need) text += fmt::format(", which stands behind {}", name(in_front));
    }
    return wrong("the lanes of a pair wait in a circle: " + text);
  }

  const Parts& forward_;
  const Parts& backward_;
  bool whole_;
  std::array<Steps, 2> lanes_;
  std::array<std::vector<bool>, kSegmentKinds> issued_;  // by SegmentOf and part
};

Expected<void> check_words(const LayerOrder& order) {
  std::vector<LayerWord> all = order.compute;
  all.insert(all.end(), order.communication.begin(), order.communication.end());
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (std::find(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(i), all[i]) !=
        all.begin() + static_cast<std::ptrdiff_t>(i))
      return wrong(fmt::format("{} stands twice, needed once", all[i].text()));
    if (i < order.compute.size()) continue;
    if (all[i].of == SegmentOf::kBackwardWeight || all[i].of == SegmentOf::kRecompute) {
      return wrong(fmt::format("{} stands on the communication lane, but an exchange has no {}",
                               all[i].text(), all[i].text().back()));
    }
  }
  return {};
}

bool has_word(const std::vector<LayerWord>& words, const LayerWord& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

const std::vector<LayerWord>& words_of(const LayerOrder& order, Lane lane) {
  return lane == Lane::kCompute ? order.compute : order.communication;
}

/// A stage whose parts answer to words.
struct StageLayers {
  std::vector<std::vector<int>> units;  ///< by unit: its parts
  std::vector<int> tail;
};

/// Nothing: its parts do not stand in layers of kinds that the order knows.
std::optional<StageLayers> layers_of(const LayerOrder& order, const Parts& parts) {
  StageLayers layers;
  const auto known = [&](const PartShape& part) {
    const auto same = [&](const LayerWord& word) { return word.kind == part.kind; };
    return std::any_of(order.compute.begin(), order.compute.end(), same) ||
           std::any_of(order.communication.begin(), order.communication.end(), same);
  };
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const PartShape& part = parts[p];
    if (part.unit == -1) {
      if (part.lane != Lane::kCompute) return std::nullopt;
      layers.tail.push_back(static_cast<int>(p));
      continue;
    }
    const auto unit = static_cast<int>(layers.units.size()) - 1;
    if (!layers.tail.empty() || (part.unit != unit && part.unit != unit + 1) || !known(part))
      return std::nullopt;
    if (part.unit > unit) layers.units.emplace_back();
    for (const int other : layers.units.back())
      if (parts[index(other)].kind == part.kind) return std::nullopt;
    layers.units.back().push_back(static_cast<int>(p));
  }
  if (layers.units.empty()) return std::nullopt;
  return layers;
}

/// Every part that runs has its word, on its lane.
Expected<void> check_parts(const LayerOrder& order, const Parts& parts, SegmentOf of, bool whole) {
  for (const PartShape& part : parts) {
    if (part.unit < 0) continue;
    std::vector<LayerWord> needed{{part.kind, of}};
    if (of != SegmentOf::kForward && !part.has_backward) needed.clear();
    if (of != SegmentOf::kForward && part.has_backward && whole && part.lane == Lane::kCompute)
      needed.push_back({part.kind, SegmentOf::kBackwardWeight});
    for (const LayerWord& word : needed) {
      if (has_word(words_of(order, part.lane), word)) continue;
      const Lane other = kOtherLane[index(part.lane)];
      if (has_word(words_of(order, other), word)) {
        return wrong(fmt::format("{} stands on the {} lane, needed the {} lane, as its part",
                                 word.text(), kLaneNames[index(other)],
                                 kLaneNames[index(part.lane)]));
      }
      return wrong(fmt::format("{} is missing on the {} lane, needed for layer {} of the stage",
                               word.text(), kLaneNames[index(part.lane)], part.unit));
    }
  }
  return {};
}

void add_round(Pair& pair, const std::vector<LayerWord>& words, const std::vector<int>* forward,
               const std::vector<int>* backward) {
  for (const LayerWord& word : words) {
    const std::vector<int>* unit = word.of == SegmentOf::kForward ? forward : backward;
    if (unit == nullptr) continue;
    const bool again = word.of == SegmentOf::kBackwardInput &&
                       !has_word(words, {word.kind, SegmentOf::kRecompute});
    for (const int part : *unit) {
      if (pair.parts(word.of)[index(part)].kind != word.kind) continue;
      if (again) pair.add(SegmentOf::kRecompute, part);
      pair.add(word.of, part);
    }
  }
}

void lay_by_layers(Pair& pair, const LayerOrder& order, const StageLayers& forward,
                   const StageLayers& backward) {
  for (auto part = backward.tail.rbegin(); part != backward.tail.rend(); ++part)
    pair.add_backward(*part);
  const std::size_t rounds = std::max(forward.units.size(), backward.units.size());
  for (std::size_t i = 0; i < rounds; ++i) {
    const auto* f = i < forward.units.size() ? &forward.units[i] : nullptr;
    const auto* b =
        i < backward.units.size() ? &backward.units[backward.units.size() - 1 - i] : nullptr;
    add_round(pair, order.compute, f, b);
    add_round(pair, order.communication, f, b);
    if (i + 1 == forward.units.size())
      for (const int part : forward.tail) pair.add(SegmentOf::kForward, part);
  }
}

/// The parts in the order in which a side runs them, cut behind each exchange.
std::vector<std::vector<int>> cut_behind_exchanges(const Parts& parts, bool backward) {
  std::vector<std::vector<int>> pieces(1);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::size_t part = backward ? parts.size() - 1 - i : i;
    if (backward && !parts[part].has_backward) continue;
    pieces.back().push_back(static_cast<int>(part));
    if (parts[part].lane == Lane::kCommunication) pieces.emplace_back();
  }
  return pieces;
}

void lay_by_exchanges(Pair& pair, const Parts& forward, const Parts& backward) {
  const auto forward_pieces = cut_behind_exchanges(forward, false);
  const auto backward_pieces = cut_behind_exchanges(backward, true);
  const auto add_forward = [&](std::size_t round) {
    if (round >= forward_pieces.size()) return;
    for (const int part : forward_pieces[round]) pair.add(SegmentOf::kForward, part);
  };
  // With nothing of its own to wait for, the backward covers the forward's first exchange.
  const bool forward_first = backward_pieces.size() == 1 && forward_pieces.size() > 1;
  for (std::size_t i = 0; i < std::max(forward_pieces.size(), backward_pieces.size()); ++i) {
    if (forward_first) add_forward(i);
    if (i < backward_pieces.size())
      for (const int part : backward_pieces[i]) pair.add_backward(part);
    if (!forward_first) add_forward(i);
  }
}

}  // namespace

Expected<PairOrder> make_pair_order(const LayerOrder& order, const Parts& forward,
                                    const Parts& backward, bool whole) {
  PLAIT_TRY_VOID(check_words(order));
  Pair pair(forward, backward, whole);
  const std::optional<StageLayers> forward_layers = layers_of(order, forward);
  const std::optional<StageLayers> backward_layers = layers_of(order, backward);
  if (forward_layers && backward_layers) {
    PLAIT_TRY_VOID(check_parts(order, forward, SegmentOf::kForward, whole));
    PLAIT_TRY_VOID(check_parts(order, backward, SegmentOf::kBackwardInput, whole));
    lay_by_layers(pair, order, *forward_layers, *backward_layers);
  } else {
    lay_by_exchanges(pair, forward, backward);
  }
  return pair.join();
}

}  // namespace plait
