#include "plait/runtime/agree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "plait/passes/insert_comm.h"
#include "plait/runtime/driver.h"
#include "plait/runtime/inproc_comm.h"
#include "plait/schedule/generators.h"
#include "tests/support/exchange_world.h"

namespace plait {
namespace {

std::vector<RankProgram> make_programs(const Boundaries& boundaries = {}) {
  const VerifiedSchedule schedule = *verify(*insert_comm(*generate("dualpipe-v", {2, 5})));
  LowerOptions options;
  options.shapes = testing::ExchangingStages(schedule.placement(), 2).shapes();
  options.boundaries = boundaries;
  std::vector<RankProgram> programs;
  for (const int rank : {0, 1}) programs.push_back(*lower(schedule, rank, options));
  return programs;
}

/// What agree_on_programs() tells rank 0 of three, the last of which has lowered `other`.
std::string told(const std::vector<RankProgram>& same, const std::vector<RankProgram>& other) {
  InprocWorld world(3);
  std::string text;
  const Expected<void> ran = run_ranks(
      3,
      [&](int rank) -> Expected<void> {
        const Expected<void> agreed =
            agree_on_programs(world.exchange(rank), rank == 2 ? other : same);
        if (rank == 0 && !agreed) text = agreed.error().message;
        return {};
      },
      [](const Error&) {});
  EXPECT_TRUE(ran);
  return text;
}

TEST(Agree, ARankThatLoweredAnotherProgramIsNamedWithItsFirstDifference) {
  const ValueSpec stream{{{2, 64, 96}, Dtype::kFloat32}};
  const std::vector<RankProgram> right = make_programs(Boundaries(3, Boundary(stream)));
  EXPECT_EQ(told(right, right), "");

  std::vector<RankProgram> swapped = right;
  auto& lane = swapped[1].lanes[static_cast<std::size_t>(Lane::kCommunication)];
  const auto exchanges = [&](std::int32_t index) {
    return is_exchange(swapped[1].instructions[static_cast<std::size_t>(index)].opcode);
  };
  const auto first = std::find_if(lane.begin(), lane.end(), exchanges);
  std::iter_swap(first, std::find_if(first + 1, lane.end(), exchanges));
  EXPECT_EQ(told(right, swapped),
            "the ranks lowered different programs: pipeline rank 1, collective 0 of the expert "
            "group is 1F0 dispatch 0 on rank 2, needed 1F0 counts 0 as on rank 0");

  std::vector<RankProgram> fewer = right;
  lane = fewer[1].lanes[static_cast<std::size_t>(Lane::kCommunication)];
  std::erase_if(lane, exchanges);
  fewer[1].lanes[static_cast<std::size_t>(Lane::kCommunication)] = lane;
  EXPECT_EQ(told(right, fewer),
            "the ranks lowered different programs: pipeline rank 1, collective 0 of the expert "
            "group is nothing on rank 2, needed 1F0 counts 0 as on rank 0");
  EXPECT_EQ(told(fewer, right),
            "the ranks lowered different programs: pipeline rank 1, collective 0 of the expert "
            "group is 1F0 counts 0 on rank 2, needed nothing as on rank 0");

  std::vector<RankProgram> message = right;
  message[0].instructions[0].action.microbatch = 3;
  EXPECT_EQ(told(right, message),
            "the ranks lowered different programs: pipeline rank 0, instruction 0 is 0F3 attn 0 on "
            "rank 2, needed 0F0 attn 0 as on rank 0");
}

TEST(Agree, ABoundaryThatTwoRanksDeclareDifferentlyIsNamed) {
  const ValueSpec one{{{2, 64, 96}, Dtype::kFloat32}, {{2}, Dtype::kInt64}};
  const ValueSpec other{{{2, 64, 96}, Dtype::kBFloat16}, {{2}, Dtype::kInt64}};
  Boundaries boundaries(3, Boundary(one));
  const std::vector<RankProgram> right = make_programs(boundaries);
  boundaries[1] = Boundary(other);
  EXPECT_EQ(told(right, make_programs(boundaries)),
            "the ranks lowered different programs: boundary 1 forward is bfloat16 [2, 64, 96], "
            "int64 [2] on rank 2, needed float32 [2, 64, 96], int64 [2] as on rank 0");
  boundaries[1] = boundaries[0];
  boundaries[1].gradient.clear();
  EXPECT_EQ(told(right, make_programs(boundaries)),
            "the ranks lowered different programs: boundary 1 backward is nothing on rank 2, "
            "needed float32 [2, 64, 96], no tensor as on rank 0");
}

}  // namespace
}  // namespace plait
