// Mistakes of other implementations, each of which a schedule here must not have. Those that show
// in idle time or memory are in table_test.cc, those of choosing by costs in zb_auto_test.cc.

#include <gtest/gtest.h>

#include <algorithm>

#include "plait/passes/insert_comm.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/greedy/makespan.h"
#include "plait/verify/verify.h"

namespace plait {
namespace {

bool is_backward(const Action& action) {
  return action.type == ActionType::kBackward || action.type == ActionType::kBackwardInput;
}

// sail-sg numbers the chunks of backwards from the other end: "chunk 0" is then the last stage.
TEST(KnownMistakes, BackwardsBeginAtTheLastStageOfARank) {
  for (const GeneratorInfo& info : kGenerators) {
    const Schedule schedule = *generate(info.name, {4, 12});
    if (schedule.forward_only || schedule.placement.copies > 1) continue;
    for (int rank = 0; rank < 4; ++rank) {
      const std::vector<Action>& list = schedule.ranks[static_cast<std::size_t>(rank)];
      const auto first = std::find_if(list.begin(), list.end(), is_backward);
      ASSERT_NE(first, list.end());
      EXPECT_EQ(first->stage, schedule.placement.stages_of(rank).back()) << info.name << rank;
      EXPECT_EQ(first->microbatch, info.name == "looped-bfs" ? 11 : 0) << info.name << rank;
    }
  }
}

// v1f1b.py times its order by recursion and overflows the stack from here on.
TEST(KnownMistakes, OneFOneBVOfALongStep) {
  const auto proven = verify(*generate("1f1b-v", {32, 256}));
  ASSERT_TRUE(proven) << proven.error().front().text();
}

// torch's 1F1B numbers the forwards of the last rank 1 to M.
TEST(KnownMistakes, TheLastRanksForwardsBeginAtZero) {
  for (const int ranks : {1, 2, 4, 8}) {
    const std::vector<Action> last = generate("1f1b", {ranks, 2 * ranks})->ranks.back();
    int next = 0;
    for (const Action& action : last) {
      if (action.type == ActionType::kForward) {
        EXPECT_EQ(action.microbatch, next++);
      }
    }
    EXPECT_EQ(next, 2 * ranks);
  }
}

// torch's interleaved order holds 44 % more than the grouped one at P = 8.
TEST(KnownMistakes, GroupedInterleavedHoldsLess) {
  const auto most = [](const char* name) {
    const std::vector<int> peaks = peak_activations(*generate(name, {8, 16}));
    return *std::max_element(peaks.begin(), peaks.end());
  };
  EXPECT_EQ(most("interleaved-1f1b"), 23);
  EXPECT_EQ(most("interleaved-grouped"), 16);
}

// torch's DualPipeV says ZBV where it refuses.
TEST(KnownMistakes, DualPipeVNamesItself) {
  EXPECT_EQ(generate("dualpipe-v", {4, 8, 1}).error().message,
            "dualpipe-v: chunks is 1, needs exactly 2 per rank");
}

/// The action a SEND sends stands right before it, or in the pair right before it; only other
/// communication is between.
void expect_sends_behind_producers(const std::vector<Action>& list) {
  std::vector<Action> made;  // by the last compute action, or pair
  std::size_t members_left = 0;
  for (const Action& action : list) {
    if (action.type == ActionType::kOverlapFB) {
      made.clear();
      members_left = action.members;
    } else if (is_compute(action.type)) {
      if (members_left == 0) made.clear();
      members_left -= members_left > 0 ? 1 : 0;
      made.push_back(action);
    } else if (action.type == ActionType::kSendF || action.type == ActionType::kSendB) {
      const bool found = std::any_of(made.begin(), made.end(), [&](const Action& one) {
        return one.stage == action.stage && one.microbatch == action.microbatch &&
               is_backward(one) == (action.type == ActionType::kSendB);
      });
      EXPECT_TRUE(found) << action.stage << " " << action.microbatch;
    }
  }
}

// Issue 73 of sail-sg's runtime: rank 1's first forward waits until rank 0 has run its second.
TEST(KnownMistakes, ASendDoesNotWaitForTheNextAction) {
  for (const GeneratorInfo& info : kGenerators) {
    SCOPED_TRACE(info.name);
    const Schedule lowered = *insert_comm(*generate(info.name, {4, 12}));
    for (const std::vector<Action>& list : lowered.ranks) expect_sends_behind_producers(list);
  }
}

}  // namespace
}  // namespace plait
