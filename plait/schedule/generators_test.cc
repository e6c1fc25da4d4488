#include "plait/schedule/generators.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "plait/ir/forms/csv.h"
#include "plait/passes/insert_comm.h"
#include "plait/verify/verify.h"
#include "tests/support/files.h"

namespace plait {
namespace {

/// Every shape up to six ranks that a generator takes.
template <typename Visit>
int for_small_shapes(Visit visit) {
  int shapes = 0;
  for (const GeneratorInfo& info : kGenerators) {
    for (int ranks = 1; ranks <= 6; ++ranks) {
      for (int microbatches = 1; microbatches <= 3 * ranks + 3; ++microbatches) {
        for (const int chunks : {1, 2, 4}) {
          for (const bool any_m : {false, true}) {
            const Expected<Schedule> schedule =
                generate(info.name, {ranks, microbatches, chunks, any_m});
            if (!schedule) continue;
            ++shapes;
            visit(*schedule);
          }
        }
      }
    }
  }
  return shapes;
}

TEST(Generators, DualPipeVIsTheGolden) {
  EXPECT_EQ(print_csv(*generate("dualpipe-v", {4, 10})),
            testing::read_golden("dualpipev_4rank_10mb.csv"));
}

TEST(Generators, OneFOneBByHand) {
  EXPECT_EQ(print_csv(*generate("1f1b", {2, 3})),
            "0F0,0F1,0B0,0F2,0B1,0B2\n1F0,1B0,1F1,1B1,1F2,1B2\n");
}

TEST(Generators, GPipeByHand) {
  EXPECT_EQ(print_csv(*generate("gpipe", {2, 2})), "0F0,0F1,0B0,0B1\n1F0,1F1,1B0,1B1\n");
}

TEST(EveryGenerator, VerifiesForAllSmallShapes) {
  const int shapes = for_small_shapes([](const Schedule& schedule) {
    const auto in_order = verify(schedule);
    if (!in_order) ADD_FAILURE() << schedule.name << "\n" << in_order.error().front().text();
    const Expected<Schedule> lowered = insert_comm(schedule);
    ASSERT_TRUE(lowered) << lowered.error().text();
    const auto verified = verify(*lowered);
    if (!verified) ADD_FAILURE() << schedule.name << "\n" << verified.error().front().text();
  });
  EXPECT_GT(shapes, 3000);
}

// What parity of gradients with a reference rests on: each stage adds its micro-batches ascending.
// looped-bfs takes them in reverse, as torch's does; stp puts some W off past later ones.
TEST(EveryGenerator, AccumulatesGradientsAscending) {
  for_small_shapes([](const Schedule& schedule) {
    if (schedule.name == "looped-bfs" || schedule.name == "stp") return;
    for (const std::vector<Action>& list : schedule.ranks) {
      std::map<int, int> last;
      for (const Action& action : list) {
        if (action.type != ActionType::kBackward && action.type != ActionType::kBackwardWeight)
          continue;
        EXPECT_TRUE(last.count(action.stage) == 0 || last[action.stage] < action.microbatch)
            << schedule.name;
        last[action.stage] = action.microbatch;
      }
    }
  });
}

TEST(Generators, PreconditionsHoldTheNumbers) {
  EXPECT_EQ(generate("dualpipe-v", {4, 7}).error().message,
            "dualpipe-v: microbatches is 7, needs at least 8, twice the 4 ranks");
  EXPECT_EQ(generate("1f1b", {4, 3}).error().message,
            "1f1b: microbatches is 3, needs at least 4, the number of ranks");
  EXPECT_EQ(generate("gpipe", {4, 3, 2}).error().message,
            "gpipe: chunks is 2, needs exactly 1 per rank");
  EXPECT_EQ(generate("zb-h2", {4, 6}).error().message,
            "zb-h2: microbatches is 6, needs at least 7, twice the 4 ranks less one");
  EXPECT_EQ(generate("interleaved-1f1b", {4, 9}).error().message,
            "interleaved-1f1b: microbatches is 9, needs a multiple of its 2 rounds of at least 4");
  EXPECT_EQ(
      generate("dualpipe", {3, 6}).error().message,
      "dualpipe: ranks is 3, needs an even number: the middle rank would hold one stage twice");
  EXPECT_EQ(generate("chimera", {4, 6}).error().message,
            "chimera: microbatches is 6, needs a multiple of the 4 ranks");
  EXPECT_EQ(generate("stp", {4, 11}).error().message,
            "stp: microbatches is 11, needs at least 12, three times the 4 ranks");
  EXPECT_EQ(generate("hanayo", {4, 4, 3}).error().message,
            "hanayo: chunks is 3, needs an even number, two a wave");
  EXPECT_THAT(
      generate("1f2b", {4, 3}).error().message,
      ::testing::StartsWith("'1f2b' is neither a file nor a schedule's name, did you mean 1f1b? "
                            "needed one of: gpipe, 1f1b, interleaved-1f1b, "));
}

}  // namespace
}  // namespace plait
