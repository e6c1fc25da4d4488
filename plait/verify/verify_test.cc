#include "plait/verify/verify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "plait/ir/csv.h"
#include "plait/passes/insert_comm.h"
#include "plait/schedule/generators.h"

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
      "test: 2 ranks, 2 stages, 2 micro-batches, 8 compute actions, 4 messages; 14 rules hold, "
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
      "test: 2 ranks, 2 stages, 1 micro-batches, 4 compute actions, 0 messages; 12 rules hold, "
      "no circle if messages were free");
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

/// An oracle that shares nothing with the rule: lets any rank or message that can move do so, in
/// random order, until nothing moves. True if the step ended.
class RandomRun {
 public:
  RandomRun(const Schedule& schedule, int matching, unsigned seed)
      : schedule_(schedule), matching_(matching), random_(seed), next_(schedule.ranks.size()) {}

  bool ends() {
    while (true) {
      std::vector<std::size_t> order(next_.size());
      for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
      std::shuffle(order.begin(), order.end(), random_);
      bool moved = false;
      for (const std::size_t rank : order) moved = step(rank) || move_one() || moved;
      if (!moved) break;
    }
    for (std::size_t rank = 0; rank < next_.size(); ++rank) {
      if (next_[rank] < schedule_.ranks[rank].size()) return false;
    }
    for (const auto& [key, queue] : queues_) {
      if (!queue.empty()) return false;
    }
    return true;
  }

 private:
  using MessageKey = std::tuple<bool, int, int>;  // forward, sender's stage, micro-batch

  static MessageKey key_of(const Action& action) {
    const bool forward = action.type == ActionType::kSendF || action.type == ActionType::kRecvF;
    return {forward, is_send(action.type) ? action.stage : action.stage + (forward ? -1 : 1),
            action.microbatch};
  }
  std::pair<int, int> ends_of(const MessageKey& key) const {
    const auto& [forward, stage, mb] = key;
    return {schedule_.rank_of(stage, mb), schedule_.rank_of(stage + (forward ? 1 : -1), mb)};
  }
  std::tuple<int, int, int> queue_at(const MessageKey& key, bool sender) const {
    const auto [from, to] = ends_of(key);
    const int here = sender ? from : to;
    const int peer = sender ? to : from;
    if (matching_ == 0) return {here, peer, sender ? 1 : 2};
    if (matching_ == 1) return {here, peer, 0};
    return {here, -1, 0};
  }

  bool has(bool forward, int stage, int mb) const {
    return values_.count({forward, stage, mb}) > 0;
  }
  bool ready(const Action& action) const {
    const int stage = action.stage;
    const int last = schedule_.placement.stages() - 1;
    if (action.type == ActionType::kForward && stage > 0) {
      const bool crosses = schedule_.rank_of(stage, action.microbatch) !=
                           schedule_.rank_of(stage - 1, action.microbatch);
      return crosses ? arrived_.count({true, stage - 1, action.microbatch}) > 0
                     : has(true, stage - 1, action.microbatch);
    }
    if ((action.type == ActionType::kBackward || action.type == ActionType::kBackwardInput) &&
        stage < last) {
      const bool crosses = schedule_.rank_of(stage, action.microbatch) !=
                           schedule_.rank_of(stage + 1, action.microbatch);
      return crosses ? arrived_.count({false, stage + 1, action.microbatch}) > 0
                     : has(false, stage + 1, action.microbatch);
    }
    return true;
  }

  bool step(std::size_t rank) {
    const std::vector<Action>& list = schedule_.ranks[rank];
    if (next_[rank] == list.size()) return false;
    const std::size_t begin = next_[rank];
    const std::size_t end = begin + 1 + list[begin].members;
    for (std::size_t i = begin; i < end; ++i) {
      if (!ready(list[i])) return false;
    }
    for (std::size_t i = begin; i < end; ++i) {
      const Action& action = list[i];
      if (action.type == ActionType::kForward)
        values_.insert({true, action.stage, action.microbatch});
      if (action.type == ActionType::kBackward || action.type == ActionType::kBackwardInput) {
        values_.insert({false, action.stage, action.microbatch});
      }
      if (is_communication(action.type)) {
        queues_[queue_at(key_of(action), is_send(action.type))].push_back(
            {key_of(action), is_send(action.type)});
      }
    }
    next_[rank] = end;
    return true;
  }

  bool move_one() {
    for (auto& [id, queue] : queues_) {
      if (queue.empty() || !queue.front().second) continue;
      const MessageKey key = queue.front().first;
      auto& other = queues_[queue_at(key, false)];
      if (other.empty() || other.front() != std::pair(key, false)) continue;
      queue.erase(queue.begin());
      other.erase(other.begin());
      arrived_.insert(key);
      return true;
    }
    return false;
  }

  const Schedule& schedule_;
  int matching_;
  std::mt19937 random_;
  std::vector<std::size_t> next_;
  std::set<MessageKey> values_;
  std::set<MessageKey> arrived_;
  std::map<std::tuple<int, int, int>, std::vector<std::pair<MessageKey, bool>>> queues_;
};

Schedule mutate(Schedule schedule, std::mt19937& random) {
  const auto pick = [&](std::size_t size) { return static_cast<std::size_t>(random() % size); };
  for (unsigned i = 0; i <= random() % 2; ++i) {
    std::vector<Action>& list = schedule.ranks[pick(schedule.ranks.size())];
    if (list.size() < 2) continue;
    const std::size_t at = pick(list.size() - 1);
    if (list[at].members > 0 || list[at + 1].members > 0) continue;
    switch (random() % 8) {
      case 0:
        list.erase(list.begin() + static_cast<std::ptrdiff_t>(at));
        break;
      case 1:
        list.push_back(list[at]);
        break;
      case 2:
        ++list[at].microbatch;
        break;
      default: {  // mostly moves: they are what the orders' rules are for
        const Action moved = list[at];
        list.erase(list.begin() + static_cast<std::ptrdiff_t>(at));
        const std::size_t to = std::min(list.size(), at + 1 + pick(4));
        list.insert(list.begin() + static_cast<std::ptrdiff_t>(to), moved);
      }
    }
  }
  return schedule;
}

TEST(Verify, AgreesWithRunningTheMutants) {
  std::mt19937 random(1);
  int accepted = 0;
  std::map<std::string, int> caught;
  for (int i = 0; i < 4000; ++i) {
    const char* generator = std::array{"gpipe", "1f1b", "dualpipe-v"}[random() % 3];
    const int ranks = 2 + static_cast<int>(random() % 2);
    const Schedule mutant = mutate(
        *insert_comm(*generate(generator, {ranks, 2 * ranks + static_cast<int>(random() % 2)})),
        random);
    const Rules rules = rules_of(mutant);
    for (const std::string& rule : rules) ++caught[rule];
    const bool structural = std::any_of(rules.begin(), rules.end(), [](const std::string& rule) {
      return rule != "deadlock" && rule != "message-order";
    });
    if (structural) continue;
    bool runs = true;
    for (int matching = 0; matching < 3; ++matching)
      runs = RandomRun(mutant, matching, static_cast<unsigned>(random())).ends() && runs;
    accepted += rules.empty() ? 1 : 0;
    EXPECT_EQ(runs, rules.empty()) << print_csv(mutant);
  }
  EXPECT_GT(accepted, 400);
  for (const char* rule : {"range", "duplicate", "completeness", "local-order", "message-match",
                           "message-order", "deadlock"}) {
    EXPECT_GT(caught[rule], 0) << rule;
  }
}

}  // namespace
}  // namespace plait
