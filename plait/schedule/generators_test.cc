#include "plait/schedule/generators.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <map>
#include <tuple>

#include "plait/ir/csv.h"
#include "plait/passes/insert_comm.h"
#include "plait/verify/verify.h"

namespace plait {
namespace {

/// Every shape up to six ranks that a generator takes.
template <typename Visit>
int for_small_shapes(Visit visit) {
  int shapes = 0;
  for (const GeneratorInfo& info : kGenerators) {
    for (int ranks = 1; ranks <= 6; ++ranks) {
      for (int microbatches = 1; microbatches <= 2 * ranks + 3; ++microbatches) {
        const Expected<Schedule> schedule = generate(info.name, ranks, microbatches, 0);
        if (!schedule) continue;
        ++shapes;
        visit(*schedule);
      }
    }
  }
  return shapes;
}

TEST(Generators, DualPipeVIsTheGolden) {
  std::ifstream file(PLAIT_SOURCE_DIR "/tests/golden/dualpipev_4rank_10mb.csv", std::ios::binary);
  std::string golden{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::erase(golden, '\r');
  EXPECT_EQ(print_csv(*generate("dualpipe-v", 4, 10, 0)), golden);
}

TEST(Generators, OneFOneBByHand) {
  EXPECT_EQ(print_csv(*generate("1f1b", 2, 3, 0)),
            "0F0,0F1,0B0,0F2,0B1,0B2\n1F0,1B0,1F1,1B1,1F2,1B2\n");
}

TEST(Generators, GPipeByHand) {
  EXPECT_EQ(print_csv(*generate("gpipe", 2, 2, 0)), "0F0,0F1,0B0,0B1\n1F0,1F1,1B0,1B1\n");
}

TEST(EveryGenerator, VerifiesForAllSmallShapes) {
  const int shapes = for_small_shapes([](const Schedule& schedule) {
    for (const Diagnostic& finding : check_compute_order(schedule))
      ADD_FAILURE() << schedule.name << finding.text();
    const Expected<Schedule> lowered = insert_comm(schedule);
    ASSERT_TRUE(lowered) << lowered.error().text();
    const auto verified = verify(*lowered);
    if (!verified) ADD_FAILURE() << schedule.name << "\n" << verified.error().front().text();
  });
  EXPECT_GT(shapes, 150);
}

// What parity of gradients with a reference rests on: each stage adds its micro-batches ascending.
TEST(EveryGenerator, AccumulatesGradientsAscending) {
  for_small_shapes([](const Schedule& schedule) {
    std::map<int, int> next;
    for (const std::vector<Action>& list : schedule.ranks) {
      for (const Action& action : list) {
        if (action.type != ActionType::kBackward && action.type != ActionType::kBackwardWeight)
          continue;
        EXPECT_EQ(action.microbatch, next[action.stage]++) << schedule.name;
      }
    }
  });
}

TEST(Generators, PreconditionsHoldTheNumbers) {
  EXPECT_EQ(generate("dualpipe-v", 4, 7, 0).error().message,
            "dualpipe-v: microbatches is 7, needs at least 8, twice the 4 ranks");
  EXPECT_EQ(generate("1f1b", 4, 3, 0).error().message,
            "1f1b: microbatches is 3, needs at least 4, the number of ranks");
  EXPECT_EQ(generate("gpipe", 4, 3, 2).error().message,
            "gpipe: chunks is 2, needs exactly 1 per rank");
  EXPECT_EQ(generate("1f2b", 4, 3, 0).error().message,
            "'1f2b' is neither a file nor a known schedule, needed one of: gpipe, 1f1b, "
            "dualpipe-v, forward-only");
}

}  // namespace
}  // namespace plait
