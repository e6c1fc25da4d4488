#include "plait/verify/verify.h"

#include <gtest/gtest.h>

#include <set>

#include "plait/ir/forms/csv.h"
#include "plait/ir/forms/text.h"
#include "plait/schedule/generators.h"
#include "plait/verify/notes.h"

namespace plait {
namespace {

Schedule read(const std::string& csv) {
  const Expected<Schedule> schedule = read_csv(csv, "test", {});
  EXPECT_TRUE(schedule) << schedule.error().text();
  return *schedule;
}

std::set<std::string> rules_of(const Diagnostics& findings) {
  std::set<std::string> rules;
  for (const Diagnostic& finding : findings) rules.insert(finding.rule);
  return rules;
}

std::set<std::string> rules_of(const Schedule& schedule) {
  const auto verified = verify(schedule);
  return verified ? std::set<std::string>{} : rules_of(verified.error());
}

using Rules = std::set<std::string>;
const char* const kSound =
    "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n"
    "1RECV_F0,1RECV_F1,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n";

TEST(Verify, ASoundScheduleSaysWhatItProved) {
  const auto verified = verify(read(kSound));
  ASSERT_TRUE(verified);
  EXPECT_EQ(
      verified->summary(),
      "test: 2 ranks, 2 stages, 2 micro-batches, 8 compute actions, 4 messages; 17 rules hold, "
      "no deadlock per edge, per pair or per rank, without buffering");
}

// Each of these breaks one rule and no other.
TEST(Verify, EachRuleCatchesWhatNoOtherDoes) {
  Schedule shape = read(kSound);
  shape.placement.ranks = 3;
  EXPECT_EQ(rules_of(shape), Rules{"shape"});

  Schedule range = read(kSound);
  range.ranks[0].push_back({7, -1, ActionType::kReduceGrad, 0});
  EXPECT_EQ(rules_of(range), Rules{"range"});

  EXPECT_EQ(rules_of(read("0F0,(0B0;0F1)OVERLAP_F_B,0B1\n")), Rules{});
  EXPECT_EQ(rules_of(read("(0F0;0F1)OVERLAP_F_B,0B0,0B1\n")), Rules{"pair"});

  Schedule placement = read("0F0,1F0,1B0,0B0,0REDUCE_GRAD\n");
  placement.placement.ranks = 2;
  placement.ranks.push_back({{1, -1, ActionType::kReduceGrad, 0}});
  EXPECT_EQ(rules_of(placement), Rules{"placement"});

  EXPECT_EQ(rules_of(read("0F0,0B0,0F0\n")), Rules{"duplicate"});
  EXPECT_EQ(rules_of(read("0F0,0B0,0I0,0W0\n")), Rules{"duplicate"});
  EXPECT_EQ(rules_of(read("0F0,0I0\n")), Rules{"completeness"});
  EXPECT_EQ(rules_of(read("0F0,0B0,0F1\n")), Rules{"completeness"});
  EXPECT_EQ(rules_of(read("0B0,0F0\n")), Rules{"local-order"});
  EXPECT_EQ(rules_of(read("0F0,0W0,0I0\n")), Rules{"local-order"});
  EXPECT_EQ(rules_of(read("0F0,1F0,0B0,1B0\n")), Rules{"local-order"});
  EXPECT_EQ(rules_of(read("0F0,1F0,0F1,(1F1;1B0)OVERLAP_F_B,1B1,0B0,0B1\n")), Rules{});
  EXPECT_EQ(rules_of(read("0F0,0SEND_F0,0RECV_B0,0B0\n1F0,1RECV_F0,1B0,1SEND_B0\n")),
            Rules{"local-order"});
  EXPECT_EQ(rules_of(read("0F0,0SEND_F0,0RECV_B0,0B0\n1RECV_F0,1F0,1SEND_B0,1B0\n")),
            Rules{"local-order"});
  EXPECT_EQ(rules_of(read("0F0,0RECV_B0,0B0\n1RECV_F0,1F0,1B0,1SEND_B0\n")),
            Rules{"message-match"});
  EXPECT_EQ(rules_of(read("0F0,0SEND_F0,0RECV_B0,0B0,0SEND_B0\n1RECV_F0,1F0,1B0,1SEND_B0\n")),
            Rules{"message-match"});
  EXPECT_EQ(rules_of(read("0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n"
                          "1RECV_F1,1RECV_F0,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n")),
            Rules{"message-order"});
}

TEST(Verify, PairsAreBlocks) {
  // 2B0 needs 2F0's successor: within one pair the block would wait for itself.
  EXPECT_EQ(rules_of(read("0F0,0F1,(1F0;1B0)OVERLAP_F_B,1F1,1B1,0B0,0B1\n")),
            (Rules{"local-order", "pair"}));
}

TEST(Verify, NamesTheOtherParty) {
  const auto verified = verify(read("0F0,0RECV_B0,0B0\n1RECV_F0,1F0,1B0,1SEND_B0\n"));
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().front().text(),
            "error: message-match: rank 1 position 0: 1RECV_F0 is never sent\nnote: rank 0: "
            "0SEND_F0 is missing");
}

TEST(Verify, ReportsEveryViolation) {
  const auto verified = verify(read("0F0,0F0,0SEND_F0,0W0\n1F0,1B0\n"));
  ASSERT_FALSE(verified);
  EXPECT_EQ(rules_of(verified.error()), (Rules{"completeness", "duplicate", "message-match"}));
  EXPECT_EQ(verified.error().size(), 4U);
}

TEST(Verify, ADeadlockIsPrintedAsItsCircle) {
  // Free of deadlock per edge. Where both directions share a queue, 0SEND_F1 stands before 0RECV_B0
  // and 1SEND_B0 before 1RECV_F1: neither can move.
  const auto verified =
      verify(read("0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n"
                  "1RECV_F0,1F0,1B0,1SEND_B0,1RECV_F1,1F1,1B1,1SEND_B1\n"));
  ASSERT_FALSE(verified);
  ASSERT_EQ(verified.error().size(), 1U);
  EXPECT_EQ(verified.error().front().text(),
            "error: deadlock: rank 0 position 4: with messages matched per pair of ranks and not "
            "buffered, 2 messages wait "
            "in a circle\n"
            "note: rank 0 position 4: 0RECV_B0 of 1SEND_B0 stands behind "
            "0SEND_F1 in the queue\n"
            "note: rank 1 position 4: 1RECV_F1 of 0SEND_F1 stands behind "
            "1SEND_B0 in the queue");
}

TEST(Verify, WithoutCommunicationOnlyTheOrderIsProven) {
  const auto verified = verify(read("0F0,0B0\n1F0,1B0\n"));
  ASSERT_TRUE(verified);
  EXPECT_FALSE(verified->lowered());
  EXPECT_EQ(
      verified->summary(),
      "test: 2 ranks, 2 stages, 1 micro-batches, 4 compute actions, 0 messages; 15 rules hold, "
      "no circle of waits, messages not counted");
  EXPECT_TRUE(verify(read(kSound))->lowered());
  EXPECT_TRUE(verify(read("0F0,1F0,1B0,0B0\n"))->lowered());
}

TEST(Verify, AComputeOnlyCircleIsFound) {
  const auto verified = verify(read("0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n"));
  ASSERT_FALSE(verified);
  ASSERT_EQ(rules_of(verified.error()), Rules{"dependence-cycle"});
  EXPECT_EQ(verified.error().front().text(),
            "error: dependence-cycle: rank 0 position 1: 2 ranks wait in a circle\n"
            "note: rank 0 position 1: 0B0 waits for the backward of stage 1 "
            "micro-batch 0, on rank 1\n"
            "note: rank 1 position 0: 1F1 waits for the forward of stage 0 "
            "micro-batch 1, on rank 0");
}

TEST(Verify, ParameterActionsHaveTheirPlaces) {
  EXPECT_EQ(rules_of(read("0UNSHARD,0F0,0B0,0RESHARD,0REDUCE_GRAD\n")), Rules{});
  EXPECT_EQ(rules_of(read("0F0,0UNSHARD,0B0,0RESHARD\n")), Rules{"unshard"});
  EXPECT_EQ(rules_of(read("0UNSHARD,0F0,0UNSHARD,0B0,0RESHARD\n")), Rules{"unshard"});
  EXPECT_EQ(rules_of(read("0F0,0B0,0REDUCE_GRAD,0F1,0B1\n")), Rules{"accumulation-order"});
  EXPECT_EQ(rules_of(read("0F0,0B0,0REDUCE_GRAD,0REDUCE_GRAD\n")), Rules{"duplicate"});
}

const char* const kSoundWithWaits =
    "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0WAIT_SEND_F0,0RECV_B1,0B1,0REDUCE_GRAD,"
    "0WAIT_SEND_F1,0WAIT_REDUCE_GRAD\n"
    "1RECV_F0,1RECV_F1,1F0,1B0,1SEND_B0,1F1,1B1,1REDUCE_GRAD,1WAIT_REDUCE_GRAD,1SEND_B1,"
    "1WAIT_SEND_B0,1WAIT_SEND_B1\n";

/// The findings of kSoundWithWaits with `part` replaced.
Diagnostics findings_with(std::string_view part, std::string_view other) {
  std::string csv = kSoundWithWaits;
  csv.replace(csv.find(part), part.size(), other);
  const auto verified = verify(read(csv));
  return verified ? Diagnostics{} : verified.error();
}

TEST(Verify, WhereThereAreWaitsEverySendHasItsOwn) {
  EXPECT_TRUE(verify(read(kSoundWithWaits)));
  EXPECT_EQ(findings_with(",0WAIT_SEND_F1", "").front().text(),
            "error: send-wait: rank 0 position 3: 0SEND_F1 has no 0WAIT_SEND_F1 behind it, needed "
            "one as the schedule has waits\n"
            "note: rank 0 position 6: 0WAIT_SEND_F0");
  EXPECT_EQ(findings_with(",0WAIT_SEND_F1", ",0WAIT_SEND_F1,0WAIT_SEND_F0").front().text(),
            "error: send-wait: rank 0 position 11: 0WAIT_SEND_F0 stands here again\n"
            "note: rank 0 position 6: first here");
  EXPECT_EQ(findings_with("0F1,0SEND_F1", "0F1,0WAIT_SEND_F1,0SEND_F1").front().text(),
            "error: send-wait: rank 0 position 3: 0WAIT_SEND_F1 waits for 0SEND_F1, which stands "
            "behind it\n"
            "note: rank 0 position 4: 0SEND_F1");
  EXPECT_EQ(rules_of(read("0F0,0B0,0WAIT_SEND_F0\n1F0,1B0\n")), Rules{"send-wait"});
}

TEST(Verify, WhereThereAreWaitsReductionsEndOneByOne) {
  EXPECT_EQ(findings_with(",0WAIT_REDUCE_GRAD", "").front().text(),
            "error: reduce-wait: rank 0 position 9: 0REDUCE_GRAD has no 0WAIT_REDUCE_GRAD behind "
            "it, needed one as the schedule has waits\n"
            "note: rank 0 position 6: 0WAIT_SEND_F0");
  EXPECT_EQ(findings_with("0REDUCE_GRAD,0WAIT_SEND_F1,0WAIT", "0WAIT_SEND_F1,0WAIT").front().text(),
            "error: reduce-wait: rank 0 position 10: 0WAIT_REDUCE_GRAD waits for a reduction that "
            "is not pending");
  const auto two =
      verify(read("0F0,1F0,1B0,1REDUCE_GRAD,0B0,0REDUCE_GRAD,1WAIT_REDUCE_GRAD,"
                  "0WAIT_REDUCE_GRAD\n"));
  ASSERT_FALSE(two);
  ASSERT_EQ(two.error().size(), 1U);
  EXPECT_EQ(two.error().front().text(),
            "error: reduce-wait: rank 0 position 5: 0REDUCE_GRAD starts while that of stage 1 is "
            "pending, needed one at a time\n"
            "note: rank 0 position 3: 1REDUCE_GRAD");
}

// Without its waits it ends with messages matched per directed edge.
TEST(Verify, WaitsStandInACircleOfTheirOwn) {
  const std::string rank0 =
      "0F0,0SEND_F0,0F1,0SEND_F1,0WAIT_SEND_F0,0WAIT_SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n";
  const std::string rank1 =
      "1RECV_F0,1F0,1B0,1SEND_B0,1WAIT_SEND_B0,1RECV_F1,1F1,1B1,1SEND_B1,1WAIT_SEND_B1\n";
  VerifyOptions per_edge;
  per_edge.matchings = {Matching::kEdge};
  const auto verified = verify(read(rank0 + rank1), per_edge);
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().front().text(),
            "error: deadlock: rank 1 position 4: with messages matched per directed edge and not "
            "buffered, 2 messages wait in a circle\n"
            "note: rank 1 position 4: 0SEND_F1 is not awaited yet: 1WAIT_SEND_B0 waits until rank "
            "0 receives 1SEND_B0\n"
            "note: rank 0 position 5: 1SEND_B0 is not awaited yet: 0WAIT_SEND_F1 waits until rank "
            "1 receives 0SEND_F1");
  Schedule without = read(rank0 + rank1);
  for (std::vector<Action>& list : without.ranks)
    std::erase_if(list, [](const Action& action) { return is_wait(action.type); });
  EXPECT_TRUE(verify(without, per_edge));
}

TEST(Verify, ACapOnUnshardedStages) {
  const Schedule schedule = read("0UNSHARD,1UNSHARD,0F0,1F0,1B0,1RESHARD,0B0,0RESHARD\n");
  VerifyOptions options;
  options.max_active_stages = 2;
  EXPECT_TRUE(verify(schedule, options));
  options.max_active_stages = 1;
  const auto verified = verify(schedule, options);
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().front().text(),
            "error: residency: rank 0 position 1: 1UNSHARD makes 2 stages of the rank whole, the "
            "cap is 1: 0, 1");
}

TEST(Verify, TheStageThatComputesLastMayStayUnsharded) {
  const auto as_torch =
      verify(read("0UNSHARD,0F0,0RESHARD,1UNSHARD,1F0,1B0,1RESHARD,0UNSHARD,0B0\n"));
  ASSERT_TRUE(as_torch) << as_torch.error().front().text();
  EXPECT_EQ(notes_of(as_torch->schedule()),
            std::vector<std::string>{"rank 0: stage 0, which computes last, stays unsharded at the "
                                     "end of the step, as torch's lowering leaves it"});
  EXPECT_TRUE(notes_of(read("0UNSHARD,0F0,0B0,0RESHARD\n")).empty());
  // Any other is an error.
  EXPECT_EQ(rules_of(read("0UNSHARD,0F0,1UNSHARD,1F0,1B0,0B0\n")), Rules{"unshard"});
}

std::vector<std::string> texts_of(const std::string& plait) {
  const auto verified = verify(*read_text(plait, "f"));
  std::vector<std::string> texts;
  if (!verified) {
    for (const Diagnostic& finding : verified.error()) texts.push_back(finding.text());
  }
  return texts;
}

TEST(Verify, WhatIsMissingAsAWholeIsOneFinding) {
  using Texts = std::vector<std::string>;
  const std::string head = "plait 1\nranks 2\nstages 2\nmicrobatches 3\nplacement loop\n";
  const std::string first = "rank 0: 0F0 0F1 0F2 0B0 0B1 0B2\n";
  EXPECT_EQ(texts_of(head + first + "rank 1:\n"),
            Texts{"error: completeness: rank 1: computes nothing, needed forwards and backwards of "
                  "stage 1"});
  EXPECT_EQ(texts_of(head + first + "rank 1: 1F0 1F1 1F2\n"),
            Texts{"error: completeness: rank 1: stage 1 has no backward, needed one of each of 3 "
                  "micro-batches"});
  EXPECT_EQ(texts_of(head + first + "rank 1: 1B0 1B1 1B2\n").front(),
            "error: completeness: rank 1: stage 1 has no forward, needed one of each of 3 "
            "micro-batches");
  EXPECT_EQ(texts_of(head + "rank 0: 0F0 0F1 0F2\nrank 1: 1F0 1F1 1F2\n"),
            Texts{"error: completeness: the schedule has no backward at all, and does not say that "
                  "it is forward-only"});
  // What is missing beside it is still told one by one.
  EXPECT_EQ(texts_of(head + first + "rank 1: 1F0 1F2\n").size(), 2U);
}

TEST(Verify, AscendingAccumulationIsProvenOnRequest) {
  const Schedule descending = read("0F0,0F1,0B1,0B0\n");
  EXPECT_TRUE(verify(descending));
  VerifyOptions options;
  options.ascending = true;
  const auto verified = verify(descending, options);
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().front().text(),
            "error: accumulation-order: rank 0 position 3: 0B0 adds to the gradient of stage 0 "
            "after micro-batch 1, needs ascending order\nnote: rank 0 position 2: 0B1");
}

TEST(Verify, ACapSaysWhereItBreaksAndWhatLives) {
  VerifyOptions options;
  options.max_activations = {2};
  const auto verified = verify(read("0F0,0F1,0F2,0F3,0B0,0B1,0B2,0B3\n"), options);
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().front().text(),
            "error: memory-cap: rank 0 position 2: 0F2 makes 3 stage activations live, the cap is "
            "2: stage 0 micro-batches 0-2\nnote: rank 0 position 3: the peak is 4");
  options.max_activations = {4};
  EXPECT_TRUE(verify(read("0F0,0F1,0F2,0F3,0B0,0B1,0B2,0B3\n"), options));
  options.max_activations = {4, 4};
  EXPECT_EQ(verify(read("0F0,0B0\n"), options).error().front().rule, "shape");
}

TEST(Verify, CopiesReduceInTheSameOrderOnAllTheirRanks) {
  // P = 2: both ranks hold both stages, one copy each.
  Schedule schedule = *generate("chimera", {2, 2});
  const Action first{0, -1, ActionType::kReduceGrad, 0};
  const Action second{1, -1, ActionType::kReduceGrad, 0};
  Schedule sound = schedule;
  for (auto& list : sound.ranks) list.insert(list.end(), {first, second});
  EXPECT_EQ(rules_of(sound), Rules{});
  Schedule crossed = schedule;
  crossed.ranks[0].insert(crossed.ranks[0].end(), {first, second});
  crossed.ranks[1].insert(crossed.ranks[1].end(), {second, first});
  EXPECT_EQ(rules_of(crossed), Rules{"collective-order"});
  Schedule alone = schedule;
  alone.ranks[0].push_back(first);
  EXPECT_EQ(rules_of(alone), Rules{"collective-order"});
}

TEST(Verify, OnlyRequiredMatchingsAreProven) {
  const Schedule hangs = read(
      "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n"
      "1RECV_F0,1F0,1B0,1SEND_B0,1RECV_F1,1F1,1B1,1SEND_B1\n");
  VerifyOptions options;
  options.matchings = {Matching::kEdge};
  EXPECT_TRUE(verify(hangs, options));
  options.matchings = {Matching::kRank};
  EXPECT_EQ(verify(hangs, options).error().front().matching, Matching::kRank);
  options.matchings = {Matching::kRank, Matching::kEdge, Matching::kPair};
  EXPECT_EQ(verify(hangs, options).error().front().matching, Matching::kPair);
}

TEST(Verify, WhatIsMissingComesBeforeWhatThatMisplaces) {
  // With 10 micro-batches instead of 8 the first copy has 5 of them: number 4 is on the wrong rank.
  Schedule schedule = *generate("chimera", {2, 8});
  schedule.microbatches = 10;
  const auto verified = verify(schedule);
  ASSERT_FALSE(verified);
  EXPECT_EQ(rules_of(verified.error()), (Rules{"completeness", "placement"}));
  EXPECT_EQ(verified.error().front().rule, "completeness");
  EXPECT_EQ(verified.error().back().rule, "placement");
}

TEST(Verify, AFarTooSmallListIsOneFinding) {
  Schedule schedule = read("0F0,0B0\n");
  schedule.microbatches = 1 << 30;
  EXPECT_EQ(verify(schedule).error().size(), 1U);
}

}  // namespace
}  // namespace plait
