// Idle time and peak memory of every schedule at unit costs, P = 4 to 32: the closed numbers that
// papers and implementations give, in exact integers. A stage's F, I and W take one nanosecond
// each, so with V stages a rank the idle time is V times that of a rank's share.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>

#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/greedy/makespan.h"

namespace plait {
namespace {

struct Measured {
  Nanoseconds idle = 0;
  std::vector<int> peaks;  // stage activations by rank
};

Measured measure(const Schedule& schedule) {
  const Expected<OrderPrice> price = price_order(schedule, unit_costs(schedule.placement.stages()));
  if (!price) {
    ADD_FAILURE() << price.error().text();
    return {};
  }
  Nanoseconds work = 0;
  for (const Action& action : schedule.ranks.front()) {
    if (is_compute(action.type)) work += action.type == ActionType::kBackward ? 2 : 1;
  }
  return {price->makespan - work, price->peak_activations};
}

struct Row {
  std::string name;
  int chunks;
  std::function<bool(int p, int m)> takes;
  std::function<Nanoseconds(int p, int m)> idle;
  std::function<int(int p, int m, int r)> peak;  // of rank r
};

bool any_shape(int /*p*/, int /*m*/) { return true; }
bool two_p(int p, int m) { return m >= 2 * p; }

std::vector<Row> rows() {
  return {
      {"gpipe", 1, any_shape, [](int p, int) { return 3 * (p - 1); },
       [](int, int m, int) { return m; }},
      {"1f1b", 1, any_shape, [](int p, int) { return 3 * (p - 1); },
       [](int p, int m, int r) { return std::min(p - r, m); }},
      {"looped-bfs", 2, any_shape, [](int p, int) { return 3 * (p - 1); },
       [](int, int m, int) { return 2 * m; }},
      {"interleaved-1f1b", 2, two_p, [](int p, int) { return 3 * (p - 1); },
       [](int p, int, int r) { return p + 2 * (p - 1 - r) + 1; }},
      {"interleaved-grouped", 2, any_shape, [](int p, int) { return 2 * (p - 1); },
       [](int p, int, int r) { return 2 * p - r; }},
      {"interleaved-zero-bubble", 2, any_shape, [](int p, int) { return p - 1; },
       [](int p, int, int) { return 2 * p; }},
      {"zb-h1", 1, any_shape, [](int p, int) { return p - 1; }, [](int p, int, int) { return p; }},
      {"zb-h2", 1, two_p, [](int p, int) { return p - 1; },
       [](int p, int, int) { return 2 * p - 1; }},
      {"zbv", 2, two_p, [](int p, int) { return p - 1; }, [](int p, int, int) { return 2 * p; }},
      {"dualpipe", 1, two_p, [](int p, int) { return p / 2 - 1; },
       [](int p, int, int) { return p + 1; }},
      {"dualpipe-v", 2, two_p, [](int p, int) { return p - 1; },
       [](int p, int, int) { return 2 * p + 1; }},
      // 12, 18, 30 at P = 8: more with every unit of P micro-batches, as B = 2F. A middle rank
      // holds half of all micro-batches in flight of both copies, an end rank those and one.
      {"chimera", 1, any_shape, [](int p, int m) { return (p - 2) * (m / p + 1); },
       [](int p, int, int r) { return p / 2 + 1 + std::min(r, p - 1 - r); }},
  };
}

TEST(ScheduleTable, IdleTimeAndPeaksAreTheClosedNumbers) {
  for (const Row& row : rows()) {
    for (const int p : {4, 8, 16, 32}) {
      for (const int m : {p, 2 * p, 3 * p, 4 * p}) {
        if (!row.takes(p, m)) continue;
        SCOPED_TRACE(row.name + " P " + std::to_string(p) + " M " + std::to_string(m));
        const Expected<Schedule> schedule = generate(row.name, {p, m, row.chunks});
        ASSERT_TRUE(schedule) << schedule.error().text();
        const Measured measured = measure(*schedule);
        EXPECT_EQ(measured.idle, row.idle(p, m));
        for (int r = 0; r < p; ++r)
          EXPECT_EQ(measured.peaks.at(static_cast<std::size_t>(r)), row.peak(p, m, r)) << r;
      }
    }
  }
}

int highest(const Measured& measured) {
  return *std::max_element(measured.peaks.begin(), measured.peaks.end());
}

TEST(ScheduleTable, BuildingBlocks) {
  for (const int p : {4, 8, 16, 32}) {
    for (const int m : {2 * p, 4 * p}) {
      SCOPED_TRACE(p);
      const Measured half = measure(*generate("v-half", {p, m}));
      EXPECT_EQ(half.idle, 3 * p - 7);
      EXPECT_EQ(highest(half), 2 * ((p + 2) / 2));
      const Measured min = measure(*generate("v-min", {p, m}));
      EXPECT_EQ(min.idle, 4 * p - 5);
      EXPECT_EQ(highest(min), 2 * ((p + 4) / 3));
    }
  }
}

// The numbers of 1F1B-V's source, which runs I and W as one, are those of the merged
// form: 7.5, 16.5, 37.5 and 76.5 of a rank's share. With I and W apart the gradient does not wait
// for W.
TEST(ScheduleTable, OneFOneBV) {
  struct Numbers {
    Nanoseconds merged, apart;
    int peak;
  };
  const std::map<int, Numbers> numbers = {
      {4, {15, 9, 6}}, {8, {33, 21, 12}}, {16, {75, 49, 22}}, {32, {153, 103, 44}}};
  for (const auto& [p, right] : numbers) {
    for (const int m : {p, 2 * p, 4 * p}) {
      SCOPED_TRACE(std::to_string(p) + " " + std::to_string(m));
      const Schedule schedule = *generate("1f1b-v", {p, m});
      const Measured merged = measure(*merge_backward(schedule, {}));
      EXPECT_EQ(merged.idle, right.merged);
      EXPECT_EQ(highest(merged), right.peak);
      const Measured apart = measure(schedule);
      if (m > p) {
        EXPECT_EQ(apart.idle, right.apart);
      } else {
        EXPECT_LE(apart.idle, right.apart);
      }
      EXPECT_EQ(highest(apart), right.peak);
    }
  }
}

TEST(ScheduleTable, StpPeaksAtFourPLessOne) {
  for (const int p : {4, 8, 16, 32}) {
    for (const int m : {3 * p, 4 * p}) {
      const Measured stp = measure(*generate("stp", {p, m}));
      EXPECT_EQ(stp.idle, p - 1) << p;
      EXPECT_EQ(highest(stp), 4 * p - 1) << p;
    }
  }
}

TEST(ScheduleTable, HanayoPaysEveryRound) {
  for (const int rounds : {1, 2, 4}) {
    EXPECT_EQ(measure(*generate("hanayo", {8, 8 * rounds, 2})).idle, 28 * rounds);  // 14 a share
    EXPECT_EQ(measure(*generate("hanayo", {8, 8 * rounds, 4})).idle, 30 * rounds);  // 7.5
    EXPECT_EQ(highest(measure(*generate("hanayo", {8, 8 * rounds, 2}))), 2 * 8);
  }
}

// The claim that the two directions never get in each other's way holds for B = F; with I and W
// apart, W in the gaps, the idle time no more grows with M.
TEST(ScheduleTable, ChimeraWithInputsAndWeightsApartIsIdlePLessTwo) {
  for (const int p : {4, 8, 16}) {
    for (const int m : {p, 2 * p, 4 * p}) {
      Schedule schedule = *generate("chimera", {p, m});
      for (std::vector<Action>& list : schedule.ranks) {
        std::vector<Action> split;
        for (Action action : list) {
          const bool backward = action.type == ActionType::kBackward;
          if (backward) action.type = ActionType::kBackwardInput;
          split.push_back(action);
          if (!backward) continue;
          action.type = ActionType::kBackwardWeight;
          split.push_back(action);
        }
        list = std::move(split);
      }
      EXPECT_EQ(measure(schedule).idle, p - 2) << p << " " << m;
    }
  }
}

// Interleaved 1F1B with B whole is idle 10.5 shares at P = 8, with W right behind I 7.
TEST(ScheduleTable, GroupedInterleavedIsIdleLess) {
  EXPECT_EQ(measure(*generate("interleaved-1f1b", {8, 16})).idle, 21);
  EXPECT_EQ(measure(*generate("interleaved-grouped", {8, 16})).idle, 14);
}

// torch writes ZBV for 2P-1 micro-batches and blanks the surplus, which doubles its idle time.
TEST(ScheduleTable, ZbvAtMEqualToPIsIdleTwiceAndZbvAutoIsNot) {
  for (const int p : {4, 8, 16, 32}) {
    EXPECT_EQ(measure(*generate("zbv", {p, p})).idle, 2 * (p - 1));
    EXPECT_EQ(measure(*generate("zbv-auto", {p, p})).idle, p - 1);
  }
}

}  // namespace
}  // namespace plait
