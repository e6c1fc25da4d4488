// Prices of small lists, compared with times and bytes that were worked out by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string_view>
#include <utility>
#include <vector>

#include "plait/passes/insert_comm.h"
#include "plait/passes/passes.h"
#include "plait/sim/simulate.h"
#include "tests/support/prices.h"

namespace plait {
namespace {

using testing::price;
using testing::proven;

/// One rank's compute-only or lowered list, written out.
Schedule written(int ranks, std::vector<int> rank_of_stage, int microbatches,
                 std::vector<std::vector<Action>> lists) {
  Schedule schedule;
  schedule.name = "written";
  schedule.placement = {"table", ranks, std::move(rank_of_stage)};
  schedule.microbatches = microbatches;
  schedule.ranks = std::move(lists);
  return schedule;
}

constexpr ActionType kF = ActionType::kForward;
constexpr ActionType kI = ActionType::kBackwardInput;
constexpr ActionType kW = ActionType::kBackwardWeight;
constexpr ActionType kB = ActionType::kBackward;

/// A stage's UNSHARD, RESHARD, REDUCE_GRAD or WAIT_REDUCE_GRAD.
Action of_stage(int stage, ActionType type) { return {stage, -1, type}; }
constexpr ActionType kUnshard = ActionType::kUnshard;
constexpr ActionType kReshard = ActionType::kReshard;
constexpr ActionType kReduce = ActionType::kReduceGrad;
constexpr ActionType kWaitReduce = ActionType::kWaitReduceGrad;

TEST(Simulate, BytesAreHeldFromForwardToWeight) {
  // One stage, F0 F1 I0 W0 I1 W1; parameters 100, gradients 50, an activation 10, between I and
  // W 7.
  const Schedule schedule = written(
      1, {0}, 2, {{{0, 0, kF}, {0, 1, kF}, {0, 0, kI}, {0, 0, kW}, {0, 1, kI}, {0, 1, kW}}});
  CostModel costs = unit_cost_model(1, 5);
  costs.parameter_bytes = {100};
  costs.gradient_bytes = {50};
  costs.activation_bytes = {10};
  costs.between_i_and_w_bytes = {7};
  const RankPrediction rank = price(proven(schedule), costs).ranks[0];
  EXPECT_EQ(rank.peak_bytes.amount, 100 + 50 + 2 * 10);
  EXPECT_EQ(rank.peak_bytes.action, (Action{0, 1, kF}));
  EXPECT_EQ(rank.peak_bytes.position, 1);
  EXPECT_EQ(rank.peak_bytes.time, 5);
  costs.between_i_and_w_bytes = {13};
  EXPECT_EQ(price(proven(schedule), costs).ranks[0].peak_bytes.amount, 150 + 10 + 13);
}

// F 10, B 20, R 8, a hop 5, one micro-batch on two ranks. Rank 1: F 15 … 25, R … 33, B … 53. Rank
// 0: F 0 … 10, R … 18 while the gradient is on its way, which is there at 58, B … 78.
TEST(Simulate, RecomputesWhileTheGradientIsOnItsWay) {
  const VerifiedSchedule schedule =
      proven(written(2, {0, 1}, 1, {{{0, 0, kF}, {0, 0, kB}}, {{1, 0, kF}, {1, 0, kB}}}));
  CostModel costs = unit_cost_model(2, 10);
  costs.actions.recompute = {8, 8};
  costs.actions.hop = 5;
  costs.activation_bytes = {3, 3};
  costs.recomputed_bytes = {7, 7};
  const auto prediction = simulate(schedule, costs, {.keep_timeline = true, .critical_path = true});
  ASSERT_TRUE(prediction) << prediction.error().text();
  EXPECT_EQ(prediction->makespan_ns, 78);
  const RankPrediction& rank = prediction->ranks[0];
  EXPECT_EQ(rank.busy_ns, 10 + 8 + 20);
  EXPECT_EQ(rank.exposed_comm_ns, 58 - 53);
  EXPECT_EQ(prediction->ranks[1].exposed_comm_ns, 5);
  // F keeps 3; R brings 7 until B's end.
  EXPECT_EQ(rank.peak_bytes.amount, 3 + 7);
  EXPECT_EQ(rank.peak_bytes.action, (Action{0, 0, kB}));
  EXPECT_EQ(rank.peak_bytes.time, 10);
  // An instruction of its own, as the runtime has it, that awaits nothing.
  const TimelineEvent& again = prediction->timeline->events[1];
  EXPECT_EQ(std::tuple(again.instruction, again.begin, again.end, again.awaited_rank),
            std::tuple(1, 10, 18, -1));
  const TimelineEvent& backward = prediction->timeline->events[2];
  EXPECT_EQ(std::tuple(backward.instruction, backward.begin, backward.awaited_rank,
                       backward.awaited_instruction),
            std::tuple(2, 58, 1, 2));
  // F, and on rank 1 F, R and B; then B.
  std::vector<Nanoseconds> begins;
  for (const CriticalStep& step : prediction->critical_path) begins.push_back(step.begin);
  EXPECT_THAT(begins, ::testing::ElementsAre(0, 15, 25, 33, 58));
}

// One stage, F0 F1 B0 B1: what is recomputed is held once, not from each F on.
TEST(Simulate, HoldsWhatIsRecomputedOnlyUntilItsBackwardEnds) {
  const VerifiedSchedule schedule =
      proven(written(1, {0}, 2, {{{0, 0, kF}, {0, 1, kF}, {0, 0, kB}, {0, 1, kB}}}));
  CostModel costs = unit_cost_model(1, 10);
  costs.activation_bytes = {10};
  EXPECT_EQ(price(schedule, costs).ranks[0].peak_bytes.amount, 2 * 10);
  costs.activation_bytes = {3};
  costs.recomputed_bytes = {7};
  costs.actions.recompute = {6};
  const Prediction prediction = price(schedule, costs);
  EXPECT_EQ(prediction.ranks[0].peak_bytes.amount, 2 * 3 + 7);
  EXPECT_EQ(prediction.ranks[0].peak_bytes.time, 2 * 10);
  EXPECT_EQ(prediction.makespan_ns, 2 * (10 + 6 + 20));
}

// One stage, F0 F1 I0 W0 B1. What is worked with counts while its action runs, and is gone at its
// end: F1 holds 2 * 10 + 4, I0 20 + 9 until 10 are freed and 3 kept, W0 13 + 5, B1 10 + 20.
TEST(Simulate, HoldsWhatAnActionWorksWithWhileItRuns) {
  const VerifiedSchedule schedule =
      proven(written(1, {0}, 2, {{{0, 0, kF}, {0, 1, kF}, {0, 0, kI}, {0, 0, kW}, {0, 1, kB}}}));
  CostModel costs = unit_cost_model(1, 10);
  costs.activation_bytes = {10};
  costs.between_i_and_w_bytes = {3};
  const auto peak = [&](Bytes forward, Bytes input, Bytes weight, Bytes whole) {
    costs.scratch_bytes = {{{forward}, {input}, {weight}, {whole}}};
    return price(schedule, costs).ranks[0].peak_bytes;
  };
  EXPECT_EQ(peak(0, 0, 0, 0).amount, 20);
  EXPECT_EQ(peak(4, 0, 0, 0).amount, 24);
  EXPECT_EQ(peak(4, 0, 0, 0).time, 10);
  EXPECT_EQ(peak(4, 9, 0, 0).amount, 29);
  EXPECT_EQ(peak(4, 9, 0, 0).action, (Action{0, 0, kI}));
  EXPECT_EQ(peak(4, 9, 17, 0).amount, 30);
  EXPECT_EQ(peak(4, 9, 17, 21).amount, 31);
}

// On one lane, forward first, a braid is the sequence.
TEST(Simulate, ABraidSaysWhatItsPairsRecompute) {
  const VerifiedSchedule schedule = proven("dualpipe-v", 2, 4, 2);
  CostModel costs = unit_cost_model(4, 10);
  costs.actions.recompute = {8, 8, 8, 8};
  costs.pairs.pricing = PairPricing::kBraid;
  Braid braid{{{"f", Lane::kCompute, SegmentOf::kForward, 10, {}},
               {"i", Lane::kCompute, SegmentOf::kBackwardInput, 20, {}}}};
  costs.pairs.braid = *PreparedBraid::make(braid);
  EXPECT_EQ(simulate(schedule, costs).error().message,
            "stages recompute, but the braid of a pair has no segment of R, needed one such as "
            "mlp.R");
  braid.segments.insert(braid.segments.begin() + 1,
                        {"r", Lane::kCompute, SegmentOf::kRecompute, 8, {}});
  costs.pairs.braid = *PreparedBraid::make(braid);
  CostModel in_sequence = costs;
  in_sequence.pairs.pricing = PairPricing::kSequence;
  EXPECT_EQ(price(schedule, costs).makespan_ns, price(schedule, in_sequence).makespan_ns);
}

/// Two ranks, two micro-batches, F and B; a link of 3 ns and 2 bytes a ns, messages of 10 bytes.
struct TwoRanks {
  Schedule schedule = *insert_comm(written(2, {0, 1}, 2,
                                           {{{0, 0, kF}, {0, 1, kF}, {0, 0, kB}, {0, 1, kB}},
                                            {{1, 0, kF}, {1, 1, kF}, {1, 0, kB}, {1, 1, kB}}}));
  CostModel costs = unit_cost_model(2, 4);
  TwoRanks() {
    Network network;
    network.link = {3, 2'000'000'000};
    network.message_bytes = 10;
    costs.network = network;
  }
};

TEST(Simulate, MessagesQueueOnTheirLinkAndFillTheirReaderMemory) {
  // Rank 0: F0 F1, 4 each. A message takes 3 + 10 bytes / 2 bytes a ns = 8, one after the other:
  // made at 4 and 8, there at 12 and 20. Rank 1 reads them at 12 and 20.
  const TwoRanks two;
  const Prediction prediction = price(proven(two.schedule), two.costs);
  EXPECT_EQ(prediction.ranks[1].first_begin, 12);
  // F1 at 20 … 24, B0 … 32, B1 … 40; gradients made at 32 and 40, there at 40 and 48; B0 … 48.
  EXPECT_EQ(prediction.ranks[1].last_end, 40);
  EXPECT_EQ(prediction.makespan_ns, 48 + 8);
  // Rank 1 idles 12 before F0, the last 8 after its value was made; then 4 before F1, all exposed.
  EXPECT_EQ(prediction.ranks[1].exposed_comm_ns, 8 + 4);
  // One message at a time: read by 16 and by 24, so it is held alone.
  EXPECT_EQ(prediction.ranks[1].peak_bytes.amount, 10);
}

// The same with waits: rank 0 holds F0's output from 4 to 12, F1's from 8 to 20, when they are
// there.
TEST(Simulate, WhatWasSentIsHeldUntilItsWait) {
  const TwoRanks two;
  const auto prediction = [&](std::string_view passes) {
    return price(proven(passes.empty() ? two.schedule : *run_passes(passes, two.schedule)),
                 two.costs);
  };
  EXPECT_EQ(prediction("").ranks[0].peak_bytes.amount, 10);
  EXPECT_EQ(prediction("insert-send-wait").ranks[0].peak_bytes.amount, 20);
  EXPECT_EQ(prediction("insert-send-wait").ranks[0].peak_bytes.time, 8);
  EXPECT_EQ(prediction("insert-send-wait").makespan_ns, 56);
  EXPECT_EQ(prediction("insert-send-wait,limit-sends=1").makespan_ns, 56);
}

/// F 10, B 20 behind an UNSHARD of 7; the reduction takes 50, the RESHARD 2.
struct OneRank {
  Schedule schedule;
  CostModel costs = unit_cost_model(1, 10);
  explicit OneRank(bool waits) {
    std::vector<Action> list{of_stage(0, kUnshard), {0, 0, kF}, {0, 0, kB}, of_stage(0, kReduce)};
    if (waits) list.push_back(of_stage(0, kWaitReduce));
    list.push_back(of_stage(0, kReshard));
    schedule = written(1, {0}, 1, {list});
    costs.unshard = {7};
    costs.reduce_grad = {50};
    costs.reshard = {2};
  }
};

// The compute lane waits for the reduction.
TEST(Simulate, AWaitForAReductionIsExposed) {
  OneRank one(/*waits=*/true);
  CostModel& costs = one.costs;
  costs.parameter_bytes = {100};
  costs.activation_bytes = {5};
  const Prediction prediction = price(proven(one.schedule), costs);
  EXPECT_EQ(prediction.makespan_ns, 7 + 10 + 20 + 50 + 2);
  EXPECT_EQ(prediction.ranks[0].exposed_comm_ns, 7 + 50);
  EXPECT_EQ(prediction.ranks[0].peak_bytes.amount, 105);
  EXPECT_EQ(prediction.ranks[0].peak_bytes.time, 7);  // parameters are held from 0 on
}

TEST(Simulate, ParametersComeAndGoOnTheCommunicationLane) {
  const OneRank one(/*waits=*/false);
  const Prediction prediction = price(proven(one.schedule), one.costs);
  EXPECT_EQ(prediction.ranks[0].first_begin, 7);
  EXPECT_EQ(prediction.makespan_ns, 7 + 10 + 20 + 50);
  EXPECT_EQ(prediction.ranks[0].busy_ns, 10 + 20 + 2);
  EXPECT_EQ(prediction.ranks[0].exposed_comm_ns, 7);
}

/// One rank with two stages, one micro-batch, F 10, B 20; parameters of 100 and 60 bytes.
Prediction price_two_stages(const std::vector<Action>& list, CostModel costs) {
  costs.actions = unit_costs(2, 10);
  costs.parameter_bytes = {100, 60};
  return price(proven(written(1, {0, 0}, 1, {list})), costs);
}

// One stage is whole at a time: an UNSHARD of 7 begins when the RESHARD before it has ended.
// 0 … 7, F0 … 17, 17 … 24, F1 B1 … 54, 54 … 61, B0 … 81.
TEST(Simulate, AnUnshardWaitsForTheReshardsBeforeIt) {
  CostModel costs;
  costs.unshard = {7, 7};
  const Prediction prediction = price_two_stages({of_stage(0, kUnshard),
                                                  {0, 0, kF},
                                                  of_stage(0, kReshard),
                                                  of_stage(1, kUnshard),
                                                  {1, 0, kF},
                                                  {1, 0, kB},
                                                  of_stage(1, kReshard),
                                                  of_stage(0, kUnshard),
                                                  {0, 0, kB},
                                                  of_stage(0, kReshard)},
                                                 costs);
  EXPECT_EQ(prediction.makespan_ns, 81);
  EXPECT_EQ(prediction.ranks[0].exposed_comm_ns, 3 * 7);
  EXPECT_EQ(prediction.ranks[0].peak_bytes.amount, 100);
}

// F 4; a message of 8. Rank 0: UNSHARD … 7, F0 … 11, its message … 19; its WAIT_SEND holds the
// communication lane until then, so the next UNSHARD takes 19 … 26. F1 … 30, its message … 38.
// Rank 1: F1 38 … 42, B0 … 50, B1 … 58. Rank 0: B0 at 58, B1 … 74.
TEST(Simulate, ComputeWaitsForAnUnshardBehindAWaitForASend) {
  TwoRanks two;
  two.costs.unshard = {7, 0};
  const auto message = [](ActionType type, int microbatch) { return Action{0, microbatch, type}; };
  two.schedule.ranks[0] = {of_stage(0, kUnshard),
                           {0, 0, kF},
                           message(ActionType::kSendF, 0),
                           message(ActionType::kWaitSendF, 0),
                           of_stage(0, kReshard),
                           of_stage(0, kUnshard),
                           {0, 1, kF},
                           message(ActionType::kSendF, 1),
                           message(ActionType::kRecvB, 0),
                           {0, 0, kB},
                           message(ActionType::kRecvB, 1),
                           {0, 1, kB},
                           of_stage(0, kReshard),
                           message(ActionType::kWaitSendF, 1)};
  std::vector<Action>& other = two.schedule.ranks[1];
  for (const int m : {0, 1}) other.push_back({1, m, ActionType::kWaitSendB});
  const Prediction prediction = price(proven(two.schedule), two.costs);
  EXPECT_EQ(prediction.ranks[1].last_end, 58);
  EXPECT_EQ(prediction.makespan_ns, 74);
}

// A REDUCE_GRAD of 50 before the last send does not hold its message back: 56, as without it, but
// for the reduction itself: B1 of rank 1 ends at 40.
TEST(Simulate, ACollectiveHasALinkOfItsOwn) {
  TwoRanks two;
  two.costs.reduce_grad = {0, 50};
  std::vector<Action>& list = two.schedule.ranks[1];
  ASSERT_EQ(list.back().type, ActionType::kSendB);
  list.insert(list.end() - 1, of_stage(1, kReduce));
  const Prediction prediction = price(proven(two.schedule), two.costs);
  EXPECT_EQ(prediction.ranks[0].last_end, 56);
  EXPECT_EQ(prediction.makespan_ns, 40 + 50);
}

// Four replicas, 3 ns and 2 bytes a ns: 75 of stage 0's 100 bytes take 3 + 38, 45 of stage 1's 60
// take 3 + 23, of parameters as of gradients.
//   link     U0 0 … 41, U1 … 67          R1 97 … 123      R0 123 … 164
//   compute  F0 41 … 51, F1 67 … 77, B1 … 97, B0 … 117, until 123, until 164
TEST(Simulate, CollectivesOccupyTheirLinkForBytesAndLatency) {
  CostModel costs;
  costs.gradient_bytes = {100, 60};
  costs.collectives = {4, {3, 2'000'000'000}};
  const Prediction prediction = price_two_stages({of_stage(0, kUnshard),
                                                  of_stage(1, kUnshard),
                                                  {0, 0, kF},
                                                  {1, 0, kF},
                                                  {1, 0, kB},
                                                  of_stage(1, kReshard),
                                                  of_stage(1, kReduce),
                                                  {0, 0, kB},
                                                  of_stage(1, kWaitReduce),
                                                  of_stage(0, kReduce),
                                                  of_stage(0, kWaitReduce),
                                                  of_stage(0, kReshard)},
                                                 costs);
  EXPECT_EQ(prediction.makespan_ns, 164);
  EXPECT_EQ(prediction.ranks[0].busy_ns, 2 * (10 + 20));
  EXPECT_EQ(prediction.ranks[0].exposed_comm_ns, 41 + 16 + 6 + 41);
  // At 97 stage 1's parameters have gone and its gradients are still whole: 25 + 15 that the rank
  // keeps, parameters 100, gradients 60 and 100.
  EXPECT_EQ(prediction.ranks[0].peak_bytes.amount, 40 + 100 + 60 + 100);
  EXPECT_EQ(prediction.ranks[0].peak_bytes.time, 97);
}

// A quarter of 101 is 26, and 76 come from the others; one replica moves nothing.
TEST(Collectives, SharesAreRoundedUp) {
  const Collectives four{4, {3, 1'000'000'000}};
  EXPECT_EQ(four.share_of(101), 26);
  EXPECT_EQ(four.transfer(101), 3 + 76);
  EXPECT_EQ((Collectives{1, {3, 1'000'000'000}}.transfer(101)), 0);
  EXPECT_EQ((Collectives{4, {3, 0}}.transfer(101)), 3);
}

TEST(Collectives, RefusesWhatContradicts) {
  OneRank one(/*waits=*/true);
  const auto message = [&](const Schedule& schedule) {
    return simulate(proven(schedule), one.costs).error().message;
  };
  one.costs.collectives = {4, {}};
  EXPECT_EQ(message(one.schedule),
            "unshard_ns is given together with replicas, needed one or the other");
  one.costs.unshard.clear();
  EXPECT_EQ(message(one.schedule),
            "reduce_grad_ns is given together with replicas, needed one or the other");
  one.costs.reduce_grad.clear();
  EXPECT_EQ(message(written(1, {0}, 1, {{{0, 0, kF}, {0, 0, kB}}})),
            "replicas are priced, but the schedule has no UNSHARD and no REDUCE_GRAD: needed one "
            "with them, as --lower makes it");
  one.costs.collectives->replicas = 0;
  EXPECT_EQ(message(one.schedule), "replicas is 0, needed 1 or more");
}

}  // namespace
}  // namespace plait
