#include "plait/ir/forms/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plait {
namespace {

/// A document with its actions, its placement and one more member.
std::string document(const std::string& actions, const std::string& placement = "\"loop\"",
                     const std::string& more = "") {
  return R"({"plait": 1, "ranks": 2, "stages": 2, "microbatches": 1, "placement": )" + placement +
         more + R"(, "actions": )" + actions + "}";
}

std::string error_of(const std::string& text) {
  const Expected<Schedule> read = read_json(text, "f");
  return read ? "no error" : read.error().text();
}

TEST(Json, PrintsALinePerRank) {
  Schedule schedule{"f", {"bidirectional", 2, {0, 1, 1, 0}, 2}, 3, false, {}};
  schedule.ranks = {{{0, 0, ActionType::kForward, 0},
                     {},
                     {-1, -1, ActionType::kOverlapFB, 2},
                     {0, 1, ActionType::kForward, 0},
                     {1, 2, ActionType::kBackward, 0}},
                    {}};
  EXPECT_EQ(print_json(schedule), R"({"plait": 1, "ranks": 2, "stages": 2, "microbatches": 3, )"
                                  R"("placement": "bidirectional", "forward_only": false,
 "actions": [
  ["0F0", null, ["0F1", "1B2"]],
  []
]}
)");
  EXPECT_EQ(*read_json(print_json(schedule), "f"), schedule);
  schedule.placement = {"table", 2, {1, 0, 0, 0}, 2};
  EXPECT_THAT(print_json(schedule), ::testing::HasSubstr(R"("placement": [[1, 0], [0, 0]])"));
}

TEST(Json, ErrorsNameTheValuesPointer) {
  EXPECT_EQ(error_of(document("[[], []]")), "no error");
  EXPECT_EQ(
      error_of(document(R"([["0F0", "0G0"], []])")),
      "f:/actions/0/1: in \"0G0\" at 2: 'G' is not an action type (F, I, W, B, SEND_F, RECV_F, "
      "SEND_B, RECV_B, UNSHARD, RESHARD, REDUCE_GRAD, "
      "WAIT_SEND_F, WAIT_SEND_B, WAIT_REDUCE_GRAD)");
  EXPECT_EQ(error_of(document(R"([[], ["0F0", ["0F1", ["0B0", 7]]]])")),
            "f:/actions/1/1/1/1: found 7, needed an action as a string, or an array as a pair");
  EXPECT_EQ(error_of(document("[[], [[]]]")),
            "f:/actions/1/0: the pair is empty, needed its members");
  EXPECT_EQ(error_of(document(R"([[], ["(0F0;1B0)OVERLAP_F_B"]])")),
            "f:/actions/1/0: found \"(0F0;1B0)OVERLAP_F_B\", needed a pair as an array of its "
            "members");
  EXPECT_EQ(error_of(document("[[[[[[[[[[[[\"0F0\"]]]]]]]]]]], []]")),
            "f:/actions/0/0/0/0/0/0/0/0/0/0: pairs nest more than 8 deep");
  EXPECT_EQ(error_of(document("[[]]")),
            "f:/actions: found 1 entries, needed an array with one array for each of 2 ranks");
  EXPECT_EQ(error_of(document("[[], 3]")), "f:/actions/1: found 3, needed an array of actions");
  EXPECT_EQ(error_of(document("[[], []]", "[0, 2]")),
            "f:/placement: the placement's table holds '2', needed a rank below 2");
  EXPECT_EQ(
      error_of(document("[[], []]", "[0, \"1\"]")),
      "f:/placement: found an array, needed a name, an array with the rank of every stage, or "
      "two such arrays");
  EXPECT_EQ(
      error_of(document("[[], []]", "[[0, 1], [1, 0], [0, 1]]")),
      "f:/placement: found an array, needed a name, an array with the rank of every stage, or "
      "two such arrays");
  EXPECT_EQ(error_of(document("[[], []]", "\"0 1\"")),
            "f:/placement: found \"0 1\", needed a name, an array with the rank of every stage, or "
            "two such arrays");
  EXPECT_EQ(error_of(document("[[], []]", "\"v\"", ", \"forward_only\": 1")),
            "f:/forward_only: found 1, needed true or false");
}

TEST(Json, KeysAreStrict) {
  EXPECT_EQ(error_of("[]"), "f: found an array, needed an object");
  EXPECT_EQ(error_of("{\"plait\": 1}"),
            "f:/ranks: found nothing, needed an integer from 1 to 65536");
  EXPECT_EQ(error_of(document("[[], []]", "\"v\"", ", \"chunks\": 2")),
            "f: key 'chunks' is not known, did you mean 'ranks'?");
  EXPECT_EQ(error_of(document("[[], []]", "\"v\"", ", \"ranks\": 2")),
            "f: the key \"ranks\" stands here twice, needed once");
  std::string text = document("[[], []]");
  text.replace(text.find("\"plait\": 1"), 10, "\"plait\": 2");
  EXPECT_EQ(error_of(text), "f:/plait: the format's version is 2, this program reads 1");
  text = document("[[], []]");
  text.replace(text.find("\"ranks\": 2"), 10, "\"ranks\": 18446744073709551615");
  EXPECT_EQ(error_of(text),
            "f:/ranks: found 18446744073709551615, needed an integer from 1 to 65536");
}

TEST(Json, WhatIsNoJsonIsFoundByLineAndColumn) {
  EXPECT_THAT(error_of("{\"plait\": 1,\n  \"ranks\" 2}"),
              ::testing::StartsWith("f:2:11: not JSON: syntax error"));
  EXPECT_THAT(error_of(document("[[], []]") + "x"), ::testing::HasSubstr("not JSON: syntax error"));
  EXPECT_THAT(error_of("{"), ::testing::StartsWith("f:1:2: not JSON: syntax error"));
}

}  // namespace
}  // namespace plait
