#include "plait/ir/forms/text.h"

#include <gtest/gtest.h>

namespace plait {
namespace {

constexpr const char* kHeader = "plait 1\nranks 2\nstages 2\nmicrobatches 1\nplacement loop\n";

std::string error_of(const std::string& text) {
  const Expected<Schedule> read = read_text(text, "f");
  return read ? "no error" : read.error().text();
}

TEST(Text, ReadsCommentsBlankLinesAndRanksInAnyOrder) {
  const Expected<Schedule> read = read_text(
      "# a drawing\r\n\nplait 1 # version\nplacement 0 1 1 0# the table\nmicrobatches 2\nstages 4\n"
      "ranks 2\n  rank 1 : 1F0 2F0\t. # waits\n rank 0:0F0 . (0F1;3B0)OVERLAP_F_B",
      "f");
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(print_text(*read),
            "plait 1\nranks 2\nstages 4\nmicrobatches 2\nplacement 0 1 1 0\n"
            "rank 0: 0F0 . (0F1;3B0)OVERLAP_F_B\nrank 1: 1F0 2F0 .\n");
}

TEST(Text, SaysForwardOnlyAndTwoCopies) {
  const std::string text =
      "plait 1\nranks 2\nstages 2\nmicrobatches 2\nplacement bidirectional\nforward-only\n"
      "rank 0: 0F0 1F1\nrank 1:\n";
  const Expected<Schedule> read = read_text(text, "f");
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_TRUE(read->forward_only);
  EXPECT_EQ(read->placement.copies, 2);
  EXPECT_EQ(print_text(*read), text);
}

TEST(Text, TheHeaderIsStrict) {
  EXPECT_EQ(error_of("# nothing\n"),
            "f:2:1: the file is empty, needed 'plait 1' as its first line");
  EXPECT_EQ(error_of("ranks 2\n"), "f:1:1: found 'ranks', needed 'plait 1' as the first line");
  EXPECT_EQ(error_of("plait 2\n"), "f:1:7: the format's version is 2, this program reads 1");
  EXPECT_EQ(error_of("plait\n"), "f:1:6: found the end, needed a number, the format's version");
  EXPECT_EQ(error_of("plait 1 2\n"), "f:1:9: found '2', needed the end of the line");
  EXPECT_EQ(error_of("plait 1\nranks two\n"), "f:2:7: found 'two', needed a number, ranks");
  EXPECT_EQ(error_of("plait 1\nranks 0\n"), "f:2:7: ranks is 0, needs to be from 1 to 65536");
  EXPECT_EQ(error_of("plait 1\nstages 99999999999999999999\n"),
            "f:2:8: stages is 99999999999999999999, needs to be from 1 to 1048576");
  EXPECT_EQ(error_of("plait 1\nranks 2\n ranks 2\n"),
            "f:3:2: ranks stands here a second time, needed once");
  EXPECT_EQ(error_of("plait 1\nchunks 2\n"),
            "f:2:1: 'chunks' is not a line of the header, needed ranks, stages, microbatches, "
            "placement or forward-only");
  EXPECT_EQ(error_of("plait 1\nranks 2\nmicrobatches 4\nrank 0: 0F0\n"),
            "f:4:5: the header lacks stages, placement, needed ranks, stages, microbatches and "
            "placement before the first rank");
  EXPECT_EQ(error_of("plait 1\nranks 2\nstages 3\nmicrobatches 1\nplacement v\nrank 0:\n"),
            "f:5:11: stages is 3, must be a multiple of 2 ranks for placement v");
  EXPECT_EQ(error_of("plait 1\nplacement   # none\n"),
            "f:2:13: found the end, needed a placement, as in v or 0 1 1 0");
}

TEST(Text, RankLinesAreStrict) {
  const std::string header = kHeader;
  EXPECT_EQ(error_of(header + "rank 0: 0F0\n"),
            "f:7:1: rank 1 has no line, needed one for each of 2 ranks");
  EXPECT_EQ(error_of(header + "rank 0:\nrank 0: 0F0\n"),
            "f:7:1: rank 0 stands here a second time, needed once");
  EXPECT_EQ(error_of(header + "rank 2: 0F0\n"), "f:6:6: the rank is 2, needs to be from 0 to 1");
  EXPECT_EQ(error_of(header + "rank x: 0F0\n"), "f:6:6: found 'x', needed a number, the rank");
  EXPECT_EQ(error_of(header + "rank 0 0F0\n"), "f:6:8: found '0', needed ':'");
  EXPECT_EQ(error_of(header + "rank 0:\nranks 2\n"),
            "f:7:1: found 'r', needed a line such as 'rank 0: 0F0 . 0B0'");
  EXPECT_EQ(error_of(header + "rank 0: 0F0 0G0\n"),
            "f:6:14: 'G' is not an action type (F, I, W, B, SEND_F, RECV_F, SEND_B, RECV_B, "
            "UNSHARD, RESHARD, REDUCE_GRAD, "
            "WAIT_SEND_F, WAIT_SEND_B, WAIT_REDUCE_GRAD)");
  EXPECT_EQ(error_of(header + "rank 0: 0F0,0B0\n"),
            "f:6:12: found ',', needed the end of the action");
  EXPECT_EQ(error_of(header + "rank 0: ..\n"), "f:6:10: found '.', needed the end of the action");
  EXPECT_EQ(error_of(header + "rank 0: (0F0;1B0 # cut\n"), "f:6:17: found ' ', needed ';' or ')'");
}

}  // namespace
}  // namespace plait
