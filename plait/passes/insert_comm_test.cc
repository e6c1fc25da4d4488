#include "plait/passes/insert_comm.h"

#include <gtest/gtest.h>

#include "plait/ir/forms/csv.h"
#include "tests/support/files.h"

namespace plait {
namespace {

std::string lowered(const std::string& csv) {
  const Expected<Schedule> output = read_csv(csv, "test", {}).and_then(insert_comm);
  return output ? print_csv(*output) : output.error().text();
}

// Goldens: what torch.distributed.pipelining's _add_send_recv makes of its own tests' inputs.
TEST(InsertComm, OneStagePerRank) {
  EXPECT_EQ(lowered("0F0,0F1,,0B0,,0B1\n,1F0,1B0,1F1,1B1,\n"),
            "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n"
            "1RECV_F0,1RECV_F1,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n");
}

TEST(InsertComm, VPlacementHandsOverLocally) {
  EXPECT_EQ(lowered("0F0,0F1,,3F0,3B0,3F1,3B1,0B0,3W0,0B1,3W1,0W0,0W1\n"
                    ",1F0,2F0,1F1,2F1,2B0,1B0,2B1,1B1,2W0,2W1,1W0,1W1\n"),
            "0F0,0SEND_F0,0F1,0SEND_F1,3RECV_F0,3F0,3B0,3SEND_B0,3RECV_F1,3F1,3B1,3SEND_B1,0RECV_"
            "B0,0B0,3W0,0RECV_B1,0B1,"
            "3W1,0W0,0W1\n"
            "1RECV_F0,1RECV_F1,1F0,2F0,2SEND_F0,1F1,2RECV_B0,2F1,2SEND_F1,2B0,2RECV_B1,1B0,1SEND_"
            "B0,2B1,1B1,1SEND_B1,2W0,"
            "2W1,1W0,1W1\n");
}

TEST(InsertComm, InterleavedZeroBubbleIsTheGolden) {
  // torch's golden merges an I with the W right behind it into a B first.
  Expected<Schedule> schedule =
      read_csv(testing::read_golden("zb1p_2rank_2stagep_compute.csv"), "golden", {});
  ASSERT_TRUE(schedule);
  for (std::vector<Action>& list : schedule->ranks) {
    std::erase_if(list, [](const Action& action) { return action.type == ActionType::kIdle; });
    for (std::size_t i = 0; i + 1 < list.size(); ++i) {
      if (list[i].type != ActionType::kBackwardInput ||
          list[i + 1].type != ActionType::kBackwardWeight)
        continue;
      if (list[i].stage != list[i + 1].stage || list[i].microbatch != list[i + 1].microbatch)
        continue;
      list[i].type = ActionType::kBackward;
      list.erase(list.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    }
  }
  const Expected<Schedule> output = insert_comm(*schedule);
  ASSERT_TRUE(output) << output.error().text();
  EXPECT_EQ(print_csv(*output), testing::read_golden("zb1p_2rank_2stagep_comms.csv"));
}

TEST(InsertComm, APairSendsAfterBothMembers) {
  EXPECT_EQ(
      lowered("0F0,0F1,(0F2;0B0)OVERLAP_F_B,0B1,0B2\n1F0,1B0,1F1,1B1,1F2,1B2\n"),
      "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,(0F2;0B0)OVERLAP_F_B,0SEND_F2,0RECV_B1,0B1,0RECV_B2,0B2\n"
      "1RECV_F0,1F0,1RECV_F1,1B0,1SEND_B0,1RECV_F2,1F1,1B1,1SEND_B1,1F2,1B2,1SEND_B2\n");
}

TEST(InsertComm, ACircleNamesWhoWaitsForWhat) {
  EXPECT_EQ(lowered("0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n"),
            "test: no rank can go on:\n"
            "  rank 0 position 1 (0B0) waits for the backward of stage 1 micro-batch 0 on rank 1\n"
            "  rank 1 position 0 (1F1) waits for the forward of stage 0 micro-batch 1 on rank 0");
}

}  // namespace
}  // namespace plait
