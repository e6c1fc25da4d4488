#include "plait/passes/limit_sends.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "plait/ir/direction.h"
#include "plait/ir/forms/csv.h"
#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"

namespace plait {
namespace {

using ::testing::HasSubstr;

/// Rank and place in its list.
using Node = std::pair<std::size_t, std::size_t>;

/// torch's rule as it stands: all that follows an action is found by a walk over a graph that is
/// built anew for every question.
class Search {
 public:
  Search(Schedule schedule, int most)
      : schedule_(std::move(schedule)), most_(static_cast<std::size_t>(most)) {}

  /// Nothing where the rule finds no wait that may be moved.
  std::optional<Schedule> run() {
    for (std::size_t rank = 0; rank < schedule_.ranks.size(); ++rank) {
      for (std::size_t at = 0; at < schedule_.ranks[rank].size(); ++at) {
        if (!is_send(schedule_.ranks[rank][at].type)) continue;
        while (pending(rank, at).size() + 1 > most_) {
          if (!move_one(rank, at)) return std::nullopt;
          ++at;
        }
      }
    }
    return schedule_;
  }

 private:
  std::vector<Action> pending(std::size_t rank, std::size_t at) const {
    std::vector<Action> sends;
    for (std::size_t i = 0; i < at; ++i) {
      const Action& action = schedule_.ranks[rank][i];
      if (is_send(action.type)) sends.push_back(action);
      if (is_send_wait(action.type)) std::erase(sends, awaited_send(action));
    }
    return sends;
  }

  bool move_one(std::size_t rank, std::size_t at) {
    std::optional<Action> chosen;
    for (const Action& send : pending(rank, at)) {
      const Node receive = *find(other_end(send));
      if (reaches({rank, at}, receive, wait_for_send(send))) continue;
      const bool preferred = reaches(receive, {rank, at}, wait_for_send(send));
      if (preferred || !chosen) chosen = send;
      if (preferred) break;
    }
    if (!chosen) return false;
    std::vector<Action>& list = schedule_.ranks[rank];
    list.erase(std::find(list.begin() + static_cast<std::ptrdiff_t>(at), list.end(),
                         wait_for_send(*chosen)));
    list.insert(list.begin() + static_cast<std::ptrdiff_t>(at), wait_for_send(*chosen));
    return true;
  }

  std::optional<Node> find(const Action& wanted) const {
    for (std::size_t rank = 0; rank < schedule_.ranks.size(); ++rank) {
      for (std::size_t i = 0; i < schedule_.ranks[rank].size(); ++i) {
        if (schedule_.ranks[rank][i] == wanted) return Node{rank, i};
      }
    }
    return std::nullopt;
  }
  /// The first action from a place on that is no wait.
  std::optional<Node> follows(Node node) const {
    const std::vector<Action>& list = schedule_.ranks[node.first];
    while (node.second < list.size() && is_send_wait(list[node.second].type)) ++node.second;
    return node.second < list.size() ? std::optional(node) : std::nullopt;
  }

  bool reaches(Node from, Node to, const Action& left_out) const {
    std::set<Node> seen{from};
    std::vector<Node> todo{from};
    while (!todo.empty()) {
      const Node node = todo.back();
      todo.pop_back();
      if (node == to) return true;
      std::vector<std::optional<Node>> next{follows({node.first, node.second + 1})};
      const Action& action = schedule_.ranks[node.first][node.second];
      if (is_send(action.type)) next.push_back(find(other_end(action)));
      if (is_recv(action.type)) {
        const Action wait = wait_for_send(other_end(action));
        const std::optional<Node> stands = find(wait);
        if (stands && wait != left_out) next.push_back(follows(*stands));
      }
      for (const std::optional<Node>& one : next) {
        if (one && seen.insert(*one).second) todo.push_back(*one);
      }
    }
    return false;
  }

  Schedule schedule_;
  std::size_t most_;
};

/// The most sends of a rank without their wait.
std::size_t most_outstanding(const Schedule& schedule) {
  std::size_t most = 0;
  for (const std::vector<Action>& list : schedule.ranks) {
    std::size_t open = 0;
    for (const Action& action : list) {
      if (is_send(action.type)) most = std::max(most, ++open);
      if (is_send_wait(action.type)) --open;
    }
  }
  return most;
}

/// A schedule whose receives may stand in another order than their sends.
Schedule deferred(std::string_view name, const ScheduleShape& shape, unsigned seed) {
  Schedule schedule =
      *run_passes("drop-idle,insert-comm,insert-send-wait,defer-recv", *generate(name, shape));
  std::mt19937 random(seed);
  for (std::size_t swaps = 0; swaps < seed % 7; ++swaps) {  // neighbouring receives
    std::vector<Action>& list = schedule.ranks[random() % schedule.ranks.size()];
    const std::size_t at = random() % (list.size() - 1);
    if (is_recv(list[at].type) && is_recv(list[at + 1].type)) std::swap(list[at], list[at + 1]);
  }
  return schedule;
}

TEST(LimitSends, IsTheSearchOfTheGraph) {
  int equal = 0, refused = 0, placed_by_a_run = 0;
  for (const char* name : {"1f1b", "interleaved-1f1b", "zbv", "looped-bfs", "dualpipe-v"}) {
    for (const int ranks : {2, 3}) {
      for (const int microbatches : {3, 6}) {
        if (!generate(name, {ranks, microbatches})) continue;
        for (unsigned seed = 0; seed < 6; ++seed) {
          const Schedule schedule = deferred(name, {ranks, microbatches}, seed);
          const Expected<FewestSends> fewest = fewest_outstanding_sends(schedule);
          if (!fewest) continue;  // its own waits stand in a circle
          for (const int most : {1, 2, 3}) {
            const std::optional<Schedule> searched = Search(schedule, most).run();
            const Expected<Schedule> limited = limit_sends(schedule, most);
            ASSERT_EQ(limited.has_value(), most >= fewest->number)
                << most << " " << fewest->proof << "\n"
                << print_csv(schedule) << (limited ? print_csv(*limited) : "");
            if (limited) {
              EXPECT_LE(most_outstanding(*limited), static_cast<std::size_t>(most));
              EXPECT_TRUE(fewest_outstanding_sends(*limited)) << "a circle of waits";
            }
            if (searched) {
              ASSERT_TRUE(limited);
              ASSERT_EQ(print_csv(*limited), print_csv(*searched)) << most;
            }
            ++(searched ? equal : limited ? placed_by_a_run : refused);
          }
        }
      }
    }
  }
  EXPECT_GT(equal, 200);
  EXPECT_GT(refused, 0);
  RecordProperty("placed_by_a_run", placed_by_a_run);
}

Schedule crossed() {
  return *run_passes("insert-send-wait",
                     *read_csv("0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B1,0B1,0RECV_B0,0B0\n"
                               "1RECV_F1,1F1,1B1,1SEND_B1,1RECV_F0,1F0,1B0,1SEND_B0\n",
                               "crossed", {}));
}

TEST(LimitSends, TheFewestComeWithTheirProof) {
  const Expected<FewestSends> fewest = fewest_outstanding_sends(crossed());
  ASSERT_TRUE(fewest);
  EXPECT_EQ(fewest->number, 2);
  EXPECT_EQ(fewest->proof,
            "with 1, ranks wait in a circle: rank 0 (0SEND_F1) waits for 1RECV_F0 on rank 1, rank "
            "1 (1RECV_F1) waits for 0SEND_F1 on rank 0");
  EXPECT_TRUE(limit_sends(crossed(), 2));
  EXPECT_THAT(limit_sends(crossed(), 1).error().text(),
              HasSubstr("found 1 outstanding sends a rank, needed at least 2: with 1, ranks wait"));
}

TEST(LimitSends, WhatLacksAWaitOrStandsInACircleIsRefused) {
  Schedule schedule = crossed();
  std::erase(schedule.ranks[0], Action{0, 1, ActionType::kWaitSendF, 0});
  EXPECT_EQ(limit_sends(schedule, 2).error().text(),
            "crossed: 0SEND_F1 on rank 0 has no wait, needed one: insert-send-wait goes before");
  schedule = crossed();
  std::vector<Action>& list = schedule.ranks[0];
  const Action wait{0, 0, ActionType::kWaitSendF, 0};
  std::erase(list, wait);
  list.insert(list.begin() + 2, wait);  // behind its send, before 0SEND_F1
  EXPECT_THAT(limit_sends(schedule, 2).error().text(),
              HasSubstr("the order's own waits stand in a circle: rank 0 (0F1) waits for 1RECV_F0 "
                        "on rank 1, rank 1 (1RECV_F1) waits for 0SEND_F1 on rank 0"));
}

}  // namespace
}  // namespace plait
