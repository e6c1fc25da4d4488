#include "plait/program/pair_order.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace plait {
namespace {

using ::testing::HasSubstr;
using Parts = std::vector<PartShape>;

constexpr Lane kCompute = Lane::kCompute;
constexpr Lane kCommunication = Lane::kCommunication;

/// The parts of a stage of mixture-of-experts layers, and its tail.
Parts stage(int units, bool counts = true, bool recompute = false) {
  Parts parts;
  for (int unit = 0; unit < units; ++unit) {
    parts.push_back({kCompute, "attn", unit, true, recompute});
    if (counts) parts.push_back({kCommunication, "counts", unit, false});
    parts.push_back({kCommunication, "dispatch", unit});
    parts.push_back({kCompute, "mlp", unit, true, recompute});
    parts.push_back({kCommunication, "combine", unit});
  }
  parts.push_back({kCompute, "tail"});
  return parts;
}

const PartShape& part_of(const PairStep& step, const Parts& forward, const Parts& backward) {
  return (step.of == SegmentOf::kForward ? forward : backward)[static_cast<std::size_t>(step.part)];
}

/// "attn.F0 mlp.B1": the steps of one lane, or of both.
std::string text(const PairOrder& order, const Parts& forward, const Parts& backward,
                 std::optional<Lane> lane = std::nullopt) {
  std::string all;
  for (const PairStep& step : order) {
    const PartShape& part = part_of(step, forward, backward);
    if (lane && part.lane != *lane) continue;
    all += (all.empty() ? "" : " ") + LayerWord{part.kind, step.of}.text();
    if (part.unit >= 0) all += std::to_string(part.unit);
  }
  return all;
}

struct Lanes {
  std::string compute;
  std::string communication;
};

Lanes lanes(const Parts& forward, const Parts& backward, bool whole = true) {
  const auto order = make_pair_order(default_layer_order(), forward, backward, whole);
  EXPECT_TRUE(order) << order.error().text();
  if (!order) return {};
  return {text(*order, forward, backward, kCompute),
          text(*order, forward, backward, kCommunication)};
}

/// What is wrong with an order; empty: each step once, each behind what it needs.
std::string fault(const PairOrder& order, const Parts& forward, const Parts& backward, bool whole) {
  std::size_t forward_next = 0;
  std::size_t backward_next = backward.size();
  std::set<int> open_w;
  std::set<int> open_i;  // recomputed
  const auto skip = [&] {
    while (backward_next > 0 && !backward[backward_next - 1].has_backward) --backward_next;
  };
  skip();
  for (const PairStep& step : order) {
    const auto part = static_cast<std::size_t>(step.part);
    if (step.of == SegmentOf::kForward) {
      if (part != forward_next++) return "a forward part is out of order";
    } else if (step.of == SegmentOf::kBackwardInput) {
      if (backward_next == 0 || part != --backward_next) return "a backward part is out of order";
      if (backward[part].recompute && open_i.erase(step.part) == 0) return "R is missing";
      if (whole && backward[part].lane == kCompute) open_w.insert(step.part);
      skip();
    } else if (step.of == SegmentOf::kRecompute) {
      if (!backward[part].recompute || part >= backward_next || !open_i.insert(step.part).second)
        return "an R of nothing, twice, or behind its B";
    } else if (open_w.erase(step.part) == 0) {
      return "W without its B, twice, of an exchange, or of an I";
    }
  }
  if (forward_next != forward.size()) return "a forward part is missing";
  if (backward_next != 0) return "a backward part is missing";
  if (!open_i.empty()) return "an R without its B";
  return open_w.empty() ? "" : "a W is missing";
}

TEST(PairOrder, EqualStagesRunTheLayersOrder) {
  const Lanes both = lanes(stage(2), stage(2));
  EXPECT_EQ(both.compute,
            "tail.B tail.W attn.F0 mlp.B1 mlp.W1 mlp.F0 attn.B1 attn.W1 "
            "attn.F1 mlp.B0 mlp.W0 mlp.F1 attn.B0 attn.W0 tail.F");
  EXPECT_EQ(both.communication,
            "combine.B1 counts.F0 dispatch.F0 dispatch.B1 combine.F0 "
            "combine.B0 counts.F1 dispatch.F1 dispatch.B0 combine.F1");
  const Lanes input = lanes(stage(1), stage(1), false);
  EXPECT_EQ(input.compute, "tail.B attn.F0 mlp.B0 mlp.F0 attn.B0 tail.F");
  EXPECT_EQ(input.communication, "combine.B0 counts.F0 dispatch.F0 dispatch.B0 combine.F0");
}

TEST(PairOrder, LanesAreJoinedWithExchangesAsEarlyAsTheyCan) {
  const auto order = make_pair_order(default_layer_order(), stage(1), stage(1), true);
  ASSERT_TRUE(order);
  EXPECT_EQ(text(*order, stage(1), stage(1)),
            "tail.B combine.B0 tail.W attn.F0 counts.F0 dispatch.F0 mlp.B0 dispatch.B0 mlp.W0 "
            "mlp.F0 combine.F0 attn.B0 attn.W0 tail.F");
}

TEST(PairOrder, RecomputesRightBeforeTheBackwardUnlessTheOrderSaysWhere) {
  const Parts parts = stage(1, true, true);
  const Lanes both = lanes(parts, parts);
  EXPECT_EQ(both.compute,
            "tail.B tail.W attn.F0 mlp.R0 mlp.B0 mlp.W0 mlp.F0 attn.R0 attn.B0 attn.W0 tail.F");
  EXPECT_EQ(both.communication, lanes(stage(1), stage(1)).communication);
  // Without layers too.
  EXPECT_EQ(lanes(stage(0), parts).compute,
            "tail.B tail.W tail.F mlp.R0 mlp.B0 mlp.W0 attn.R0 attn.B0 attn.W0");
  LayerOrder order = default_layer_order();
  order.compute.insert(order.compute.begin(), {"attn", SegmentOf::kRecompute});
  const auto made = make_pair_order(order, parts, parts, true);
  ASSERT_TRUE(made) << made.error().text();
  EXPECT_EQ(text(*made, parts, parts, kCompute),
            "tail.B tail.W attn.R0 attn.F0 mlp.R0 mlp.B0 mlp.W0 mlp.F0 attn.B0 attn.W0 tail.F");
  // What a stage does not recompute is left out.
  EXPECT_EQ(*make_pair_order(order, stage(1), stage(1), true),
            *make_pair_order(default_layer_order(), stage(1), stage(1), true));
}

TEST(PairOrder, TheLongerStageGoesOnAlone) {
  const Lanes more_forward = lanes(stage(2), stage(1));
  EXPECT_EQ(more_forward.compute,
            "tail.B tail.W attn.F0 mlp.B0 mlp.W0 mlp.F0 attn.B0 attn.W0 attn.F1 mlp.F1 tail.F");
  EXPECT_EQ(more_forward.communication,
            "combine.B0 counts.F0 dispatch.F0 dispatch.B0 combine.F0 "
            "counts.F1 dispatch.F1 combine.F1");
  // The forward's tail covers the next layer's combine.B.
  const Lanes more_backward = lanes(stage(1), stage(2));
  EXPECT_EQ(more_backward.compute,
            "tail.B tail.W attn.F0 mlp.B1 mlp.W1 mlp.F0 attn.B1 attn.W1 tail.F "
            "mlp.B0 mlp.W0 attn.B0 attn.W0");
  EXPECT_EQ(more_backward.communication,
            "combine.B1 counts.F0 dispatch.F0 dispatch.B1 combine.F0 combine.B0 dispatch.B0");
}

TEST(PairOrder, AStageWithoutExchangesCoversTheOthers) {
  EXPECT_EQ(lanes(stage(0), stage(0)).compute, "tail.B tail.W tail.F");
  EXPECT_EQ(lanes(stage(0), stage(0), false).compute, "tail.B tail.F");
  EXPECT_EQ(lanes(stage(0), stage(1)).compute,
            "tail.B tail.W tail.F mlp.B0 mlp.W0 attn.B0 attn.W0");
  EXPECT_EQ(lanes(stage(1), stage(0)).compute, "attn.F0 tail.B tail.W mlp.F0 tail.F");
}

TEST(PairOrder, OtherPartsAreZippedByTheirExchanges) {
  const Parts forward{{kCompute, "a"}, {kCommunication, "x"}, {kCommunication, "y"},
                      {kCompute, "b"}, {kCommunication, "z"}, {kCompute, "c"}};
  const Parts backward{
      {kCompute, "d"}, {kCommunication, "u", -1, false}, {kCommunication, "v"}, {kCompute, "e"}};
  const Lanes both = lanes(forward, backward);
  EXPECT_EQ(both.compute, "e.B e.W a.F d.B d.W b.F c.F");
  EXPECT_EQ(both.communication, "v.B x.F y.F z.F");
  // One part of a kind that is not known is enough.
  Parts mixed = stage(1);
  mixed[3].kind = "experts";
  EXPECT_EQ(lanes(mixed, stage(1)).compute,
            "tail.B tail.W attn.F0 mlp.B0 mlp.W0 attn.B0 attn.W0 experts.F0 tail.F");
}

/// Any alternation: kinds known and unknown, units in order or not.
Parts random_stage(std::mt19937& random) {
  const auto below = [&](unsigned limit) { return static_cast<int>(random() % limit); };
  if (below(2) == 0) return stage(below(4), below(2) == 0, below(2) == 0);
  Parts parts;
  const char* const kinds[] = {"attn", "mlp", "dispatch", "combine", "own", "tail"};
  for (int left = below(8); left > 0; --left) {
    PartShape part{below(2) == 0 ? kCompute : kCommunication, kinds[below(6)], below(4) - 1, true};
    part.has_backward = part.lane == kCompute || below(4) > 0;
    part.recompute = part.lane == kCompute && below(2) == 0;
    parts.push_back(part);
  }
  return parts;
}

TEST(PairOrder, HoldsForAnyStages) {
  std::mt19937 random(7);
  int orders = 0;
  for (int i = 0; i < 20000; ++i) {
    const Parts forward = random_stage(random);
    const Parts backward = random_stage(random);
    const bool whole = random() % 2 == 0;
    const auto order = make_pair_order(default_layer_order(), forward, backward, whole);
    if (!order) {  // a kind that the order knows, on the other lane or for the other side only
      EXPECT_THAT(order.error().message, HasSubstr(" lane"));
      continue;
    }
    ++orders;
    ASSERT_EQ(fault(*order, forward, backward, whole), "")
        << text(*order, forward, backward) << " of round " << i;
  }
  EXPECT_GT(orders, 19000);
}

/// The order with the words of each lane permuted.
LayerOrder permuted(const std::vector<std::size_t>& compute,
                    const std::vector<std::size_t>& communication) {
  LayerOrder order = default_layer_order();
  std::erase(order.communication, LayerWord{"counts", SegmentOf::kForward});
  LayerOrder changed;
  for (const std::size_t i : compute) changed.compute.push_back(order.compute[i]);
  for (const std::size_t i : communication) changed.communication.push_back(order.communication[i]);
  return changed;
}

// Of the 720 x 24 orders within a layer of four, 109 do not wait in a circle.
TEST(PairOrder, CountsTheOrdersThatDoNotWaitInACircle) {
  const Parts parts = stage(4, false);
  std::vector<std::size_t> compute{0, 1, 2, 3, 4, 5};
  int orders = 0;
  do {
    std::vector<std::size_t> communication{0, 1, 2, 3};
    do {
      const auto order = make_pair_order(permuted(compute, communication), parts, parts, true);
      if (order) {
        ++orders;
        ASSERT_EQ(fault(*order, parts, parts, true), "");
      } else {
        ASSERT_THAT(order.error().message, HasSubstr("wait in a circle: "));
      }
    } while (std::next_permutation(communication.begin(), communication.end()));
  } while (std::next_permutation(compute.begin(), compute.end()));
  EXPECT_EQ(orders, 109);
}

std::string error_of(const LayerOrder& order, const Parts& parts) {
  const auto made = make_pair_order(order, parts, parts, true);
  return made ? "" : made.error().text();
}

TEST(PairOrder, NamesTheCircle) {
  LayerOrder order = default_layer_order();
  std::swap(order.communication[0], order.communication[4]);  // combine.F first
  EXPECT_EQ(error_of(order, stage(2)),
            "layer order: the lanes of a pair wait in a circle: combine.F of layer 0 waits for "
            "mlp.F of layer 0, which stands behind mlp.B of layer 1; mlp.B of layer 1 waits for "
            "combine.B of layer 1, which stands behind combine.F of layer 0");
  order = default_layer_order();
  std::swap(order.compute[1], order.compute[2]);
  EXPECT_EQ(error_of(order, stage(2)),
            "layer order: the lanes of a pair wait in a circle: mlp.W of layer 1 waits for mlp.B "
            "of layer 1, which stands behind mlp.W of layer 1");
}

TEST(PairOrder, SaysWhatIsWrongWithTheWords) {
  LayerOrder order = default_layer_order();
  order.compute.push_back({"mlp", SegmentOf::kForward});
  EXPECT_EQ(error_of(order, stage(1)), "layer order: mlp.F stands twice, needed once");
  order = default_layer_order();
  order.communication.push_back({"combine", SegmentOf::kBackwardWeight});
  EXPECT_EQ(error_of(order, stage(1)),
            "layer order: combine.W stands on the communication lane, but an exchange has no W");
  order = default_layer_order();
  order.communication.push_back({"mlp", SegmentOf::kRecompute});
  EXPECT_EQ(error_of(order, stage(1)),
            "layer order: mlp.R stands on the communication lane, but an exchange has no R");
  order = default_layer_order();
  order.compute.insert(order.compute.begin() + 2, {"mlp", SegmentOf::kRecompute});
  EXPECT_EQ(error_of(order, stage(1, true, true)),
            "layer order: the lanes of a pair wait in a circle: mlp.B of layer 0 waits for mlp.R "
            "of layer 0, which stands behind mlp.B of layer 0");
  order = default_layer_order();
  order.compute.pop_back();
  EXPECT_EQ(error_of(order, stage(1)),
            "layer order: attn.W is missing on the compute lane, needed for layer 0 of the stage");
  order = default_layer_order();
  order.compute.push_back(order.communication.back());
  order.communication.pop_back();
  EXPECT_EQ(error_of(order, stage(1)),
            "layer order: combine.F stands on the compute lane, needed the communication lane, "
            "as its part");
}

}  // namespace
}  // namespace plait
