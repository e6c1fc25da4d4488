// The optimum of small steps, by trying every order, against what the search finds.

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "plait/ir/placements.h"
#include "plait/search/search.h"

namespace plait {
namespace {

using Times = std::vector<Nanoseconds>;

/// Lets ranks append actions to their lists in every way. What is done so far, in numbers of each
/// stage's F's, I's and W's, is a state; of the ways to reach it only those count that no other one
/// beats in every time that matters later: when each rank is free, and when each value is there
/// that its reader has not taken.
class EveryOrder {
 public:
  EveryOrder(const Placement& placement, int microbatches, const ActionCosts& costs, int cap)
      : placement_(placement),
        stages_(static_cast<std::size_t>(placement.stages())),
        microbatches_(static_cast<std::size_t>(microbatches)),
        costs_(costs),
        cap_(static_cast<std::size_t>(cap)) {}

  /// The least makespan; -1 if no order keeps the cap.
  Nanoseconds best() {
    std::map<Counts, std::set<Times>> now;
    const auto ranks = static_cast<std::size_t>(placement_.ranks);
    now[Counts(3 * stages_)].insert(Times(ranks + 2 * stages_ * microbatches_));
    for (std::size_t step = 0; step < 3 * stages_ * microbatches_; ++step) {
      std::map<Counts, std::set<Times>> next;
      for (const auto& [counts, fronts] : now) {
        for (const Times& times : fronts) append_any(counts, times, next);
      }
      now = std::move(next);
    }
    Nanoseconds best = std::numeric_limits<Nanoseconds>::max();
    for (const auto& [counts, fronts] : now) {
      for (const Times& times : fronts)
        best = std::min(
            best,
            *std::max_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(ranks)));
    }
    return now.empty() ? -1 : best;
  }

 private:
  using Counts = std::vector<std::size_t>;  // F's, then I's, then W's, by stage

  std::size_t rank_of(std::size_t stage) const {
    return static_cast<std::size_t>(placement_.rank_of(static_cast<int>(stage)));
  }
  std::size_t value(std::size_t kind, std::size_t stage, std::size_t mb) const {
    return static_cast<std::size_t>(placement_.ranks) + (kind * stages_ + stage) * microbatches_ +
           mb;
  }
  std::size_t live(const Counts& counts, std::size_t rank) const {
    std::size_t live = 0;
    for (std::size_t stage = 0; stage < stages_; ++stage) {
      if (rank_of(stage) == rank) live += counts[stage] - counts[2 * stages_ + stage];
    }
    return live;
  }

  void append_any(const Counts& counts, const Times& times,
                  std::map<Counts, std::set<Times>>& next) const {
    for (std::size_t kind = 0; kind < 3; ++kind) {
      for (std::size_t stage = 0; stage < stages_; ++stage)
        append(kind, stage, counts, times, next);
    }
  }

  void append(std::size_t kind, std::size_t stage, const Counts& counts, Times times,
              std::map<Counts, std::set<Times>>& next) const {
    const std::size_t row = kind * stages_ + stage;
    const std::size_t mb = counts[row];
    if (mb == microbatches_ || (kind > 0 && counts[row - stages_] <= mb)) return;
    const std::size_t rank = rank_of(stage);
    if (kind == 0 && live(counts, rank) >= cap_) return;
    const bool reads = kind == 0 ? stage > 0 : kind == 1 && stage + 1 < stages_;
    Nanoseconds begin = times[rank];
    if (reads) {
      const std::size_t maker = kind == 0 ? stage - 1 : stage + 1;
      if (counts[kind * stages_ + maker] <= mb) return;
      Nanoseconds& made = times[value(kind, maker, mb)];
      begin = std::max(begin, made + (rank_of(maker) == rank ? 0 : costs_.hop));
      made = 0;  // nobody else reads it
    }
    const Times& lengths = kind == 0   ? costs_.forward
                           : kind == 1 ? costs_.backward_input
                                       : costs_.backward_weight;
    const Nanoseconds end = begin + lengths[stage];
    times[rank] = end;
    const bool is_read = kind == 0 ? stage + 1 < stages_ : kind == 1 && stage > 0;
    if (is_read) times[value(kind, stage, mb)] = end;
    Counts done = counts;
    ++done[row];
    keep(next[done], std::move(times));
  }

  static bool beats(const Times& a, const Times& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (a[i] > b[i]) return false;
    }
    return true;
  }
  static void keep(std::set<Times>& fronts, Times times) {
    for (const Times& other : fronts) {
      if (beats(other, times)) return;
    }
    std::erase_if(fronts, [&](const Times& other) { return beats(times, other); });
    fronts.insert(std::move(times));
  }

  const Placement& placement_;
  std::size_t stages_;
  std::size_t microbatches_;
  const ActionCosts& costs_;
  std::size_t cap_;
};

SearchQuestion random_question(Placement placement, int microbatches, std::mt19937_64& random) {
  SearchQuestion asked;
  const auto stages = static_cast<std::size_t>(placement.stages());
  const int chunks = placement.stages() / placement.ranks;
  asked.placement = std::move(placement);
  asked.microbatches = microbatches;
  ActionCosts& costs = asked.costs.actions;
  for (std::size_t stage = 0; stage < stages; ++stage) {
    costs.forward.push_back(static_cast<Nanoseconds>(5 + random() % 10));
    costs.backward_input.push_back(static_cast<Nanoseconds>(5 + random() % 10));
    costs.backward_weight.push_back(static_cast<Nanoseconds>(3 + random() % 10));
    costs.backward.push_back(costs.backward_input.back() + costs.backward_weight.back());
  }
  costs.hop = static_cast<Nanoseconds>(random() % 6);
  asked.cap.activations =
      chunks + static_cast<int>(random() % static_cast<std::uint64_t>(chunks * microbatches));
  asked.moves = 30'000;
  return asked;
}

void expect_optimum(const SearchQuestion& asked) {
  const Nanoseconds optimum =
      EveryOrder(asked.placement, asked.microbatches, asked.costs.actions, *asked.cap.activations)
          .best();
  const Expected<SearchResult> found = search_schedule(asked);
  ASSERT_TRUE(found) << found.error().text();
  EXPECT_LE(found->price.bound.makespan, optimum);
  EXPECT_EQ(found->price.prediction.makespan_ns, optimum)
      << "P " << asked.placement.ranks << " S " << asked.placement.stages() << " M "
      << asked.microbatches << " cap " << *asked.cap.activations;
}

TEST(Exhaustive, TheSearchFindsTheOptimumOfEverySmallLoop) {
  std::mt19937_64 random(11);
  for (int ranks = 1; ranks <= 3; ++ranks) {
    for (int microbatches = 1; microbatches <= 3; ++microbatches) {
      for (int round = 0; round < 4; ++round)
        expect_optimum(random_question(*place_loop(ranks, ranks), microbatches, random));
    }
  }
}

TEST(Exhaustive, TheSearchFindsTheOptimumOfEverySmallV) {
  std::mt19937_64 random(12);
  for (int ranks = 1; ranks <= 2; ++ranks) {
    for (int microbatches = 1; microbatches <= 3; ++microbatches) {
      for (int round = 0; round < 4; ++round)
        expect_optimum(random_question(*place_v(ranks, 2 * ranks), microbatches, random));
    }
  }
  expect_optimum(random_question(*place_v(3, 6), 2, random));
}

// The optimum of P = 4, M = 8 with 3 activations at 10, 12, 8 and 1, which CP-SAT proves
// (tests/python/bound_solver_test.py): no pruning of the walk cuts it off, from any seed.
TEST(Exhaustive, AKnownBestIsFoundFromEverySeed) {
  SearchQuestion asked;
  asked.placement = *place_loop(4, 4);
  asked.microbatches = 8;
  asked.costs.actions = {Times(4, 10), Times(4, 12), Times(4, 8), Times(4, 20), 1};
  asked.cap.activations = 3;
  asked.moves = 300'000;
  for (asked.seed = 1; asked.seed <= 5; ++asked.seed)
    EXPECT_EQ(search_schedule(asked)->price.prediction.makespan_ns, 342) << asked.seed;
}

}  // namespace
}  // namespace plait
