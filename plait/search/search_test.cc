#include "plait/search/search.h"

#include <gtest/gtest.h>

#include <array>
#include <utility>

#include "plait/ir/placements.h"
#include "plait/schedule/generators.h"

namespace plait {
namespace {

/// F, I, W and messages 10, 12, 8 and 1 ns; the cap in stage activations.
SearchQuestion question(Placement placement, int microbatches, int cap) {
  SearchQuestion asked;
  const int stages = placement.stages();
  asked.placement = std::move(placement);
  asked.microbatches = microbatches;
  const auto count = static_cast<std::size_t>(stages);
  asked.costs.actions = {std::vector<Nanoseconds>(count, 10), std::vector<Nanoseconds>(count, 12),
                         std::vector<Nanoseconds>(count, 8), std::vector<Nanoseconds>(count, 20),
                         1};
  asked.cap.activations = cap;
  return asked;
}

void scale(SearchQuestion& asked, Nanoseconds f, Nanoseconds i, Nanoseconds w, Nanoseconds hop) {
  const std::size_t stages = asked.costs.actions.forward.size();
  asked.costs.actions.forward.assign(stages, f);
  asked.costs.actions.backward_input.assign(stages, i);
  asked.costs.actions.backward_weight.assign(stages, w);
  asked.costs.actions.backward.assign(stages, i + w);
  asked.costs.actions.hop = hop;
}

// Memory P, 3/4 P and 5/8 P of a micro-batch's share: 2P, 3P/2 and 5P/4 stage activations.
TEST(Search, MeetsTheBoundOnASmallV) {
  for (const int p : {4, 8}) {
    for (const int cap : {2 * p, 3 * p / 2, 5 * p / 4}) {
      if (cap < 6) continue;
      for (const auto& [f, i, w, hop] :
           {std::array<Nanoseconds, 4>{20, 20, 20, 2}, {10, 12, 8, 1}, {20, 24, 16, 1}}) {
        SearchQuestion asked = question(*place_v(p, 2 * p), 2 * p, cap);
        scale(asked, f, i, w, hop);
        asked.moves = 3'000'000;
        const Expected<SearchResult> found = search_schedule(asked);
        ASSERT_TRUE(found) << found.error().text();
        EXPECT_TRUE(found->optimal())
            << "P " << p << " cap " << cap << " f " << f << ": "
            << found->price.prediction.makespan_ns << " bound " << found->price.bound.makespan;
        EXPECT_LE(found->price.worst_peak(), cap);
      }
    }
  }
}

TEST(Search, TheSameSeedAndMovesGiveTheSameSchedule) {
  SearchQuestion asked = question(*place_v(4, 8), 8, 4);
  asked.moves = 40'000;
  const SearchResult one = *search_schedule(asked);
  const SearchResult two = *search_schedule(asked);
  EXPECT_EQ(one.schedule, two.schedule);
  EXPECT_EQ(one.moves, two.moves);
  EXPECT_LE(one.moves, 40'000);
}

TEST(Search, EndsWhenItIsToldTo) {
  SearchQuestion asked = question(*place_v(4, 8), 8, 4);
  int asked_for = 0;
  asked.go_on = [&](const SearchProgress& progress) {
    EXPECT_GE(progress.makespan, progress.bound);
    return ++asked_for < 3;
  };
  EXPECT_TRUE(search_schedule(asked));
  EXPECT_EQ(asked_for, 3);
}

TEST(Search, AnyPlacementAndUnevenStages) {
  const Placement w{"table", 2, {0, 1, 1, 0, 0, 1}};
  SearchQuestion asked = question(w, 5, 6);
  asked.costs.actions.forward[0] = 17;
  asked.costs.actions.backward_input[5] = 40;
  asked.moves = 200'000;
  const Expected<SearchResult> found = search_schedule(asked);
  ASSERT_TRUE(found) << found.error().text();
  EXPECT_LE(found->price.worst_peak(), 6);
  EXPECT_GT(found->moves, 0);
}

TEST(Search, AnImpossibleCapIsRefusedWithTheLeastOne) {
  SearchQuestion asked = question(*place_v(4, 8), 8, 1);
  EXPECT_EQ(search_schedule(asked).error().text(),
            "memory: no order keeps a cap of 1 stage activations a rank: 2 is the least, with one "
            "micro-batch at a time");
  asked.cap.activations = 2;
  asked.moves = 1000;
  EXPECT_TRUE(search_schedule(asked));
}

TEST(Search, ACapInBytesIsKept) {
  SearchQuestion asked = question(*place_v(4, 8), 8, 0);
  asked.costs.activation_bytes.assign(8, 100);
  asked.costs.between_i_and_w_bytes.assign(8, 30);
  asked.costs.parameter_bytes.assign(8, 1000);
  asked.costs.scratch_bytes[0].assign(8, 5);
  asked.cap = {std::nullopt, 2000 + 100 * 5 + 5};
  asked.moves = 100'000;
  const Expected<SearchResult> found = search_schedule(asked);
  ASSERT_TRUE(found) << found.error().text();
  EXPECT_LE(found->price.worst_peak(), *asked.cap.bytes);
  asked.cap.bytes = 2204;
  EXPECT_EQ(search_schedule(asked).error().text(),
            "memory: no order keeps a cap of 2204 bytes a rank: 2205 is the least, with one "
            "micro-batch at a time");
}

TEST(Search, WhatIsNotSearchedIsRefusedByName) {
  SearchQuestion asked = question(*place_v(2, 4), 4, 4);
  asked.costs.unshard.assign(4, 5);
  EXPECT_NE(search_schedule(asked).error().text().find("UNSHARD"), std::string::npos);
  asked.costs.unshard.clear();
  asked.costs.pairs.pricing = PairPricing::kBlock;
  EXPECT_NE(search_schedule(asked).error().text().find("pairs"), std::string::npos);
}

TEST(Search, LinksAreRespected) {
  SearchQuestion asked = question(*place_v(4, 8), 8, 8);
  asked.costs.network.emplace();
  asked.costs.network->link.latency = 2;
  asked.costs.network->between.push_back({1, 2, {30, 0}});
  asked.moves = 50'000;
  const Expected<SearchResult> found = search_schedule(asked);
  ASSERT_TRUE(found) << found.error().text();
  const Expected<Price> zbv = price(*generate("zbv", {4, 8}), asked.costs, {});
  EXPECT_LE(found->price.prediction.makespan_ns, zbv->prediction.makespan_ns);
}

}  // namespace
}  // namespace plait
