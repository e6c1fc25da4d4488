#include "plait/timeline/timeline.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

namespace plait {
namespace {

TimelineEvent compute_event(int rank, int instruction, ActionType type, Nanoseconds begin,
                            Nanoseconds end) {
  TimelineEvent event;
  event.rank = rank;
  event.instruction = instruction;
  event.action = {rank, 0, type, 0};
  event.begin = begin;
  event.end = end;
  return event;
}

TEST(Timeline, BubbleIsTheSpanLessTheUnionOfIntervals) {
  // Rank 0: [100,200] and [150,300] overlap: 200 busy. Rank 1: [220,420]. Span 100..420 = 320.
  Timeline timeline{2,
                    {compute_event(0, 0, ActionType::kForward, 100, 200),
                     compute_event(0, 1, ActionType::kForward, 150, 300),
                     compute_event(1, 0, ActionType::kForward, 220, 420)}};
  const StepMetrics metrics = measure(timeline);
  EXPECT_EQ(metrics.span_ns, 320);
  EXPECT_EQ(metrics.ranks[0].bubble_ns, 320 - 200);
  EXPECT_EQ(metrics.ranks[1].bubble_ns, 320 - 200);
  EXPECT_DOUBLE_EQ(metrics.bubble_share(1), 0.375);
}

TEST(Timeline, ExposedCommunicationCountsFromTheProducersEnd) {
  // Rank 1 waits from the step's first event at 0; its value was made at 100, it begins at 130: 30.
  // Then it is busy until 200; the next value was made at 150, it begins at 240: idle from 200, 40.
  Timeline timeline{2,
                    {compute_event(0, 0, ActionType::kForward, 0, 100),
                     compute_event(0, 1, ActionType::kForward, 100, 150),
                     compute_event(1, 0, ActionType::kForward, 130, 200),
                     compute_event(1, 1, ActionType::kForward, 240, 300)}};
  timeline.events[2].awaited_rank = 0;
  timeline.events[2].awaited_instruction = 0;
  timeline.events[3].awaited_rank = 0;
  timeline.events[3].awaited_instruction = 1;
  EXPECT_EQ(measure(timeline).ranks[1].exposed_comm_ns, 30 + 40);
  EXPECT_EQ(measure(timeline).ranks[0].exposed_comm_ns, 0);
}

TEST(Timeline, WaitingForAPeerIsToldFromWaitingForBytes) {
  // Rank 1 is free at 20; its value is made at 100 and there at 130. It begins at 200 with a value
  // that was made while it was busy, at 150: all of its wait from 180 on is for bytes.
  Timeline timeline{2,
                    {compute_event(0, 0, ActionType::kForward, 0, 100),
                     compute_event(0, 1, ActionType::kForward, 100, 150),
                     compute_event(1, 0, ActionType::kForward, 0, 20),
                     compute_event(1, 1, ActionType::kForward, 130, 180),
                     compute_event(1, 2, ActionType::kForward, 200, 210)}};
  for (const auto& [event, maker] : {std::pair{3, 0}, {4, 1}}) {
    timeline.events[static_cast<std::size_t>(event)].awaited_rank = 0;
    timeline.events[static_cast<std::size_t>(event)].awaited_instruction = maker;
  }
  const RankMetrics rank = measure(timeline).ranks[1];
  EXPECT_EQ(rank.peer_wait_ns, 80);
  EXPECT_EQ(rank.exposed_comm_ns, 30 + 20);
  EXPECT_EQ(rank.bubble_ns, rank.peer_wait_ns + rank.exposed_comm_ns);
}

TEST(Timeline, OverlapIsTheShareOfTransfersUnderCompute) {
  // Compute [0,100] and [150,300]. Transfers [60,120], whose first 20 ns a peer is waited for, and
  // [110,200] together are [80,200]: 120, of which 20 and 50 lie under compute.
  Timeline timeline{2,
                    {compute_event(0, 0, ActionType::kForward, 0, 100),
                     compute_event(0, 1, ActionType::kForward, 150, 300),
                     compute_event(0, 2, ActionType::kRecvF, 60, 120),
                     compute_event(0, 3, ActionType::kRecvF, 110, 200)}};
  timeline.events[2].lane = timeline.events[3].lane = Lane::kCommunication;
  timeline.events[2].waits_ns = 20;
  const StepMetrics metrics = measure(timeline);
  EXPECT_EQ(metrics.ranks[0].transfer_ns, 120);
  EXPECT_EQ(metrics.ranks[0].hidden_comm_ns, 70);
  EXPECT_DOUBLE_EQ(metrics.overlap_efficiency(), 70.0 / 120);
  EXPECT_DOUBLE_EQ(metrics.mean_bubble_share(), (50.0 / 300 + 1) / 2);
  EXPECT_DOUBLE_EQ(measure({1, {}}).overlap_efficiency(), 1);
}

TEST(Timeline, InstructionNumbersOfAFileAreNotBelieved) {
  Timeline timeline{1, {compute_event(0, 2'000'000'000, ActionType::kForward, 0, 100)}};
  timeline.events[0].awaited_rank = 0;
  timeline.events[0].awaited_instruction = 2'000'000'000;
  EXPECT_EQ(measure(timeline).span_ns, 100);
}

TEST(Timeline, TheBubbleIsFillSteadyAndDrain) {
  Timeline timeline{3,
                    {compute_event(0, 0, ActionType::kForward, 0, 100),
                     compute_event(1, 0, ActionType::kForward, 100, 150),
                     compute_event(1, 1, ActionType::kForward, 170, 180)}};
  const RankMetrics rank = measure(timeline).ranks[1];
  EXPECT_EQ(rank.fill_ns, 100);
  EXPECT_EQ(rank.steady_ns, 20);
  EXPECT_EQ(rank.drain_ns, 0);
  EXPECT_EQ(measure(timeline).ranks[0].drain_ns, 80);
  EXPECT_EQ(measure(timeline).ranks[2].fill_ns, 180);  // it never ran
  EXPECT_EQ(measure(timeline).ranks[2].bubble_ns, 180);
}

TEST(Timeline, FlowsLeadFromSendsToTheirReceivesWithinAColumn) {
  const auto message = [](int rank, ActionType type, int stage, Nanoseconds begin) {
    TimelineEvent event = compute_event(rank, 0, type, begin, begin + 1000);
    event.action.stage = stage;
    event.lane = Lane::kCommunication;
    return event;
  };
  // Ranks 0 and 1 send to 2 and 3; rank 2 sends a gradient back.
  const Timeline timeline{
      4,
      {message(3, ActionType::kRecvF, 1, 7000), message(1, ActionType::kSendF, 0, 2000),
       message(0, ActionType::kSendF, 0, 1000), message(2, ActionType::kRecvF, 1, 5000),
       message(2, ActionType::kSendB, 1, 9000), message(0, ActionType::kRecvB, 0, 9500)}};
  const auto trace = nlohmann::json::parse(print_chrome_trace(timeline));
  std::map<int, std::vector<std::pair<int, double>>> flows;  // by id: rank and time
  for (const auto& event : trace["traceEvents"]) {
    if (event["ph"] == "s" || event["ph"] == "f")
      flows[event["id"]].push_back({event["pid"], event["ts"]});
  }
  const std::map<int, std::vector<std::pair<int, double>>> expected = {
      {0, {{2, 8.0}, {0, 9.5}}}, {1, {{0, 0.0}, {2, 5.0}}}, {2, {{1, 1.0}, {3, 7.0}}}};
  EXPECT_EQ(flows, expected);
}

TEST(Timeline, TraceNamesActionsAndPairs) {
  Timeline timeline{1, {compute_event(0, 0, ActionType::kForward, 5000, 7000)}};
  timeline.events[0].pair = 2;
  const auto trace = nlohmann::json::parse(print_chrome_trace(timeline));
  EXPECT_EQ(trace["plait"]["version"], 1);
  const auto& event = trace["traceEvents"].back();
  EXPECT_EQ(event["name"], "0F0");
  EXPECT_EQ(event["ts"], 0.0);
  EXPECT_EQ(event["dur"], 2.0);
  EXPECT_EQ(event["args"]["pair"], "2, in sequence");
  EXPECT_EQ(trace["plait"]["pairs"], "in sequence");
  timeline.events[0].braided = true;
  timeline.events[0].part = 3;
  const auto braided = nlohmann::json::parse(print_chrome_trace(timeline));
  EXPECT_EQ(braided["traceEvents"].back()["args"]["pair"], "2, braided");
  EXPECT_EQ(braided["traceEvents"].back()["args"]["part"], 3);
  EXPECT_EQ(braided["plait"]["pairs"], "braided");
}

}  // namespace
}  // namespace plait
