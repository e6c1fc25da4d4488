#include "plait/sim/simulate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "plait/passes/insert_comm.h"
#include "plait/schedule/generators.h"

namespace plait {
namespace {

VerifiedSchedule proven(Schedule schedule) {
  auto verified = verify(std::move(schedule));
  EXPECT_TRUE(verified) << verified.error().front().text();
  return *std::move(verified);
}

VerifiedSchedule proven(std::string_view name, int ranks, int microbatches, int chunks) {
  Expected<Schedule> schedule =
      generate(name, {.ranks = ranks, .microbatches = microbatches, .chunks = chunks});
  EXPECT_TRUE(schedule) << schedule.error().text();
  return proven(*std::move(schedule));
}

CostModel blocks(CostModel costs) {
  costs.pairs.pricing = PairPricing::kBlock;
  return costs;
}

Prediction price(const VerifiedSchedule& schedule, const CostModel& costs) {
  Expected<Prediction> prediction = simulate(schedule, costs);
  EXPECT_TRUE(prediction) << prediction.error().text();
  return *std::move(prediction);
}

TEST(Simulate, OneForwardOneBackwardIdlesForAPipeOfForwardsAndBackwards) {
  for (const int ranks : {1, 2, 4, 7}) {
    const VerifiedSchedule schedule = proven("1f1b", ranks, 2 * ranks, 1);
    CostModel costs = unit_cost_model(ranks);
    costs.actions.forward.assign(static_cast<std::size_t>(ranks), 3);
    costs.actions.backward.assign(static_cast<std::size_t>(ranks), 5);
    for (const RankPrediction& rank : price(schedule, costs).ranks)
      EXPECT_EQ(rank.idle_ns, (ranks - 1) * (3 + 5));
  }
}

struct UnitRow {
  const char* name;
  int ranks, microbatches, chunks;
  Nanoseconds makespan;
  std::vector<std::int64_t> live;  // by rank; one entry: the same on all
};

std::ostream& operator<<(std::ostream& out, const UnitRow& row) {
  return out << row.name << "_" << row.ranks << "_" << row.microbatches;
}

class UnitTable : public ::testing::TestWithParam<UnitRow> {};

// torch's visualizer and its liveness analysis give the same numbers.
TEST_P(UnitTable, MakespanAndPeak) {
  const UnitRow& row = GetParam();
  const VerifiedSchedule schedule = proven(row.name, row.ranks, row.microbatches, row.chunks);
  const Prediction prediction = price(schedule, blocks(unit_cost_model(row.ranks * row.chunks)));
  EXPECT_EQ(prediction.makespan_ns, row.makespan);
  for (std::size_t r = 0; r < prediction.ranks.size(); ++r) {
    EXPECT_EQ(prediction.ranks[r].busy_ns, 3 * row.chunks * row.microbatches);
    EXPECT_EQ(prediction.ranks[r].peak_activations.amount, row.live[row.live.size() == 1 ? 0 : r]);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Torch, UnitTable,
    ::testing::Values(UnitRow{"gpipe", 4, 8, 1, 33, {8}}, UnitRow{"looped-bfs", 4, 8, 2, 57, {16}},
                      UnitRow{"interleaved-1f1b", 4, 8, 2, 57, {11, 9, 7, 5}},
                      UnitRow{"interleaved-1f1b", 4, 10, 2, 69, {12, 10, 8, 6}},
                      UnitRow{"interleaved-1f1b", 8, 24, 2, 165, {23, 21, 19, 17, 15, 13, 11, 9}},
                      UnitRow{"interleaved-zero-bubble", 4, 8, 2, 51, {8}},
                      UnitRow{"interleaved-zero-bubble", 4, 10, 2, 63, {9}},
                      UnitRow{"interleaved-zero-bubble", 8, 24, 2, 151, {16}},
                      UnitRow{"zbv", 4, 8, 2, 51, {8}}, UnitRow{"zbv", 4, 10, 2, 63, {8}},
                      UnitRow{"zbv", 8, 20, 2, 127, {16}}, UnitRow{"dualpipe-v", 4, 8, 2, 54, {9}},
                      UnitRow{"dualpipe-v", 4, 10, 2, 66, {9}},
                      UnitRow{"dualpipe-v", 8, 20, 2, 134, {17}}));

}  // namespace
}  // namespace plait
