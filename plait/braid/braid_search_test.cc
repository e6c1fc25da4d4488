#include "plait/braid/braid_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "plait/braid/braid_bound.h"
#include "plait/braid/braid_text.h"
#include "plait/braid/layer_clock.h"
#include "tests/support/files.h"

namespace plait {
namespace {

using ::testing::HasSubstr;

LayerBraid deepseek() {
  auto braid = read_braid_csv(testing::read_golden("deepseek-v3-pair.csv"), "deepseek-v3-pair.csv");
  EXPECT_TRUE(braid) << braid.error().text();
  return *std::move(braid);
}

/// Tenths of a millisecond.
long tenths(Nanoseconds time) { return std::lround(static_cast<double>(time) / 1e5); }

BraidSearch search(const LayerBraid& braid, const BraidSearchOptions& options = {}) {
  auto found = search_braid(braid, options);
  EXPECT_TRUE(found) << found.error().text();
  return *std::move(found);
}

// The order of the public trace is the only best one; all figures are known from the profile.
TEST(BraidSearch, FindsTheOrderOfDeepSeeksTrace) {
  const LayerBraid braid = deepseek();
  const BraidSearch means = search(with_mean_costs(braid));
  EXPECT_TRUE(means.exhaustive);
  EXPECT_EQ(means.orders_of_lane, (std::array<double, 2>{720, 24}));
  EXPECT_EQ(means.running, 109);
  ASSERT_GE(means.best.size(), 2U);
  EXPECT_EQ(tenths(means.best[0].makespan), 1257);
  EXPECT_EQ(tenths(means.best[1].makespan), 1312);
  EXPECT_EQ(means.best[0].lanes, braid.lanes);
  const BraidSearch by_layer = search(braid);
  EXPECT_EQ(by_layer.running, 109);
  EXPECT_EQ(tenths(by_layer.best[0].makespan), 1263);
  EXPECT_EQ(by_layer.best[0].lanes, braid.lanes);
}

// No order is faster than the trace's at mean costs, also none that differs from layer to layer.
TEST(BraidBound, MeetsTheBestOrderAtMeanCosts) {
  const LayerBraid means = with_mean_costs(deepseek());
  EXPECT_EQ(braid_bound(means), search(means).best[0].makespan);
  EXPECT_EQ(tenths(braid_bound(deepseek())), 1244);
}

TEST(BraidSearch, OneThreadForBothLanesIsSlower) {
  const auto found = search_one_thread(deepseek());
  ASSERT_TRUE(found && *found);
  EXPECT_EQ((*found)->orders, 840);
  EXPECT_EQ(tenths((*found)->best_makespan), 1313);
  EXPECT_EQ(tenths((*found)->listed_makespan), 1827);
  EXPECT_EQ(tenths((*found)->worst_makespan), 2388);  // one segment after the other
  EXPECT_FALSE(search_one_thread(deepseek(), 839)->has_value());
}

/// A layer whose segments need earlier ones, in lanes that may wait in a circle.
LayerBraid random_braid(std::mt19937& random) {
  LayerBraid braid;
  braid.layers = static_cast<int>(1 + random() % 4);
  const int count = static_cast<int>(2 + random() % 6);
  for (int s = 0; s < count; ++s) {
    const SegmentOf of =
        s == 0 || random() % 2 == 0 ? SegmentOf::kForward : SegmentOf::kBackwardInput;
    const SegmentOf kind = s > 1 && random() % 4 == 0 ? SegmentOf::kRecompute : of;
    LayerSegment segment{{"s" + std::to_string(s), s == 1 ? SegmentOf::kBackwardInput : kind},
                         random() % 2 == 0 ? Lane::kCompute : Lane::kCommunication};
    for (int need = 0; need < s; ++need)
      if (random() % 3 == 0) segment.needs.push_back(need);
    if (random() % 2 == 0)
      segment.needs_of_layer_before.push_back(static_cast<int>(random() % unsigned(count)));
    for (int layer = 0; layer < braid.layers; ++layer)
      segment.costs.push_back(static_cast<Nanoseconds>(random() % 9));
    braid.segments.push_back(std::move(segment));
  }
  braid.lanes = lanes_as_listed(braid.segments);
  for (std::vector<int>& lane : braid.lanes) {
    for (std::size_t i = 1; i < lane.size(); ++i)
      if (random() % 3 == 0) std::swap(lane[i], lane[random() % i]);
  }
  return braid;
}

/// Every pair of permutations, timed by what the simulator uses.
std::vector<Nanoseconds> all_makespans(LayerBraid braid) {
  std::vector<Nanoseconds> makespans;
  for (std::vector<int>& lane : braid.lanes) std::sort(lane.begin(), lane.end());
  do {
    do {
      const auto prepared = PreparedBraid::make(*lay_out(braid));
      if (prepared) makespans.push_back(prepared->run({}, true).end);
    } while (std::next_permutation(braid.lanes[1].begin(), braid.lanes[1].end()));
  } while (std::next_permutation(braid.lanes[0].begin(), braid.lanes[0].end()));
  std::sort(makespans.begin(), makespans.end());
  return makespans;
}

TEST(BraidSearch, FindsTheBestOfAnySmallBraid) {
  std::mt19937 random(3);
  for (int i = 0; i < 40; ++i) {
    const LayerBraid braid = random_braid(random);
    const std::vector<Nanoseconds> makespans = all_makespans(braid);
    BraidSearchOptions options;
    const BraidSearch found = search(braid, options);
    ASSERT_EQ(found.running, static_cast<std::int64_t>(makespans.size()));
    for (std::size_t place = 0; place < found.best.size(); ++place)
      ASSERT_EQ(found.best[place].makespan, makespans[place]) << print_braid_text(braid);
    ASSERT_LE(braid_bound(braid), makespans[0]) << print_braid_text(braid);
    options.most_orders = 0;
    options.local_steps = 5000;
    const BraidSearch local = search(braid, options);
    EXPECT_FALSE(local.exhaustive);
    EXPECT_EQ(local.best[0].makespan, makespans[0]) << print_braid_text(braid);
  }
}

TEST(LayerClock, IsTheSimulatorsBraid) {
  std::mt19937 random(5);
  int circles = 0;
  for (int i = 0; i < 400; ++i) {
    const LayerBraid braid = random_braid(random);
    const auto prepared = PreparedBraid::make(*lay_out(braid));
    LayerClock clock(braid);
    const auto makespan = clock.run(braid.lanes);
    ASSERT_EQ(makespan.has_value(), prepared.has_value()) << print_braid_text(braid);
    if (makespan) {
      ASSERT_EQ(*makespan, prepared->run({}, true).end) << print_braid_text(braid);
    }
    circles += makespan ? 0 : 1;
  }
  EXPECT_GT(circles, 20);
  EXPECT_LT(circles, 380);
}

TEST(BraidSearch, LocalSearchFindsTheTracesOrderAndIsTheSameTwice) {
  BraidSearchOptions options;
  options.most_orders = 100;
  options.local_steps = 50'000;
  LayerBraid braid = with_mean_costs(deepseek());
  const LaneOrders best = braid.lanes;
  // From lanes that wait in a circle.
  std::reverse(braid.lanes[0].begin(), braid.lanes[0].end());
  const BraidSearch found = search(braid, options);
  EXPECT_FALSE(found.exhaustive);
  EXPECT_EQ(found.best[0].lanes, best);
  EXPECT_EQ(tenths(found.best[1].makespan), 1312);
  const BraidSearch again = search(braid, options);
  EXPECT_EQ(again.running, found.running);
  for (std::size_t i = 0; i < found.best.size(); ++i)
    EXPECT_EQ(again.best[i].lanes, found.best[i].lanes);
}

TEST(BraidSearch, SaysWhatItCannotSearch) {
  LayerBraid braid = deepseek();
  braid.segments[2].costs.clear();
  EXPECT_THAT(search_braid(braid).error().message, HasSubstr("mlp.B has no cost"));
  braid = deepseek();
  braid.segments[0].needs.push_back(7);  // combine.B needs attn.B
  EXPECT_THAT(search_braid(braid).error().message, HasSubstr("need each other in a circle"));
  braid = deepseek();
  braid.lanes[0].pop_back();
  EXPECT_THAT(search_braid(braid).error().message, HasSubstr("attn.W is missing"));
}

}  // namespace
}  // namespace plait
