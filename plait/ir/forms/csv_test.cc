#include "plait/ir/forms/csv.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "plait/ir/action_text.h"
#include "plait/ir/forms/text_forms.h"
#include "tests/support/files.h"

namespace plait {
namespace {

std::string error_of(const std::string& text, const CsvShape& shape = {}) {
  const Expected<Schedule> read = read_csv(text, "f.csv", shape);
  return read ? "no error" : read.error().text();
}

TEST(Csv, GoldensReadAndPrintAsTheyAre) {
  for (const char* name : {"dualpipev_4rank_10mb.csv", "zb1p_2rank_2stagep_compute.csv",
                           "zb1p_2rank_2stagep_comms.csv"}) {
    const std::string text = testing::read_golden(name);
    const Expected<Schedule> schedule = read_csv(text, name, {});
    ASSERT_TRUE(schedule) << schedule.error().text();
    EXPECT_EQ(print_csv(*schedule), text);
  }
}

TEST(Csv, LineEndsOfBothKindsReadAlike) {
  const Expected<Schedule> unix_ends = read_csv("0F0,0B0\n1F0,1B0\n", "f", {});
  const Expected<Schedule> dos_ends = read_csv("0F0,0B0\r\n1F0,1B0", "f", {});
  ASSERT_TRUE(unix_ends && dos_ends);
  EXPECT_EQ(*unix_ends, *dos_ends);
}

TEST(Csv, ARankOfOneIdleSlotIsNoEmptyRow) {
  const std::string text = "0F0,0B0\n \n";
  EXPECT_EQ(print_csv(*read_csv(text, "f", {})), text);
}

TEST(Csv, InfersShapeAndPlacement) {
  const Expected<Schedule> v = read_csv("0F0,3F0,0F1\n1F0,2F0\n", "f", {});
  ASSERT_TRUE(v);
  EXPECT_EQ(v->placement.name, "v");
  EXPECT_EQ(v->placement.rank_of_stage, (std::vector<int>{0, 1, 1, 0}));
  EXPECT_EQ(v->microbatches, 2);
  const Expected<Schedule> loop = read_csv("0F0,2F0\n1F0,3F0\n", "f", {});
  ASSERT_TRUE(loop);
  EXPECT_EQ(loop->placement.name, "loop");
  const Expected<Schedule> table = read_csv("0F0,1F0\n2F0\n", "f", {});
  ASSERT_TRUE(table);
  EXPECT_EQ(table->placement.name, "table");
  EXPECT_FALSE(read_csv("0F0,0B0\n", "f", {})->forward_only);
  EXPECT_TRUE(table->forward_only);
}

TEST(Csv, WhatIsGivenIsNotInferred) {
  const Expected<Schedule> shape = read_csv("0F0\n", "f", CsvShape{{}, 3, 5, {}});
  ASSERT_TRUE(shape);
  EXPECT_EQ(shape->placement.stages(), 3);
  EXPECT_EQ(shape->microbatches, 5);
  const std::string rows = "0F0,2F0\n1F0,3F0\n";
  EXPECT_EQ(read_csv(rows, "f", {{}, {}, {}, "v"})->placement.rank_of_stage,
            (std::vector<int>{0, 1, 1, 0}));
  EXPECT_EQ(read_csv(rows, "f", {{}, {}, {}, "1 0 1 0 1 0"})->placement.stages(), 6);
  EXPECT_EQ(read_csv(rows, "f", {{}, {}, {}, "bidirectional"})->placement.copies, 2);
  EXPECT_EQ(error_of(rows, {{}, {}, {}, "0 1 2 0"}),
            "--placement: the placement's table holds '2', needed a rank below 2");
  EXPECT_EQ(error_of(rows, {{}, 3, {}, "v"}),
            "--placement: stages is 3, must be a multiple of 2 ranks for placement v");
  EXPECT_EQ(error_of(rows, {{}, 3, {}, "0 1 1 0"}),
            "--placement: the placement's table has 4 stages, needed 3");
}

// One wrong cell must not change what is inferred from all the others.
TEST(Csv, ASlipOfThePenDoesNotChangeTheShape) {
  const std::string golden = testing::read_golden("dualpipev_4rank_10mb.csv");
  const Schedule right = *read_csv(golden, "f", {});
  for (const auto& [cell, slip] : {std::pair{"0F3,", "0F33,"},
                                   {"0F3,", "0F333333,"},
                                   {"0F3,", "60F3,"},
                                   {"0F0,", "3F0,"},
                                   {"0F0,", "1F0,"}}) {
    std::string text = golden;
    text.replace(text.find(cell), std::string(cell).size(), slip);
    const Expected<Schedule> read = read_csv(text, "f", {});
    ASSERT_TRUE(read) << slip;
    EXPECT_EQ(read->placement, right.placement) << slip;
    EXPECT_EQ(read->microbatches, right.microbatches) << slip;
  }
}

TEST(Csv, ErrorsNameLineColumnFoundAndNeeded) {
  EXPECT_EQ(error_of("0F0,0B0\n1F0,1X0\n"),
            "f.csv:2:6: in '1X0': 'X' is not an action type (F, I, W, B, SEND_F, RECV_F, SEND_B, "
            "RECV_B, UNSHARD, "
            "RESHARD, REDUCE_GRAD, "
            "WAIT_SEND_F, WAIT_SEND_B, WAIT_REDUCE_GRAD)");
  EXPECT_EQ(error_of("0F"), "f.csv:1:3: in '0F': found the end, needed a micro-batch");
  EXPECT_EQ(error_of("F0"), "f.csv:1:1: in 'F0': found 'F', needed a stage");
  EXPECT_EQ(error_of("0F0xyz"), "f.csv:1:4: in '0F0xyz': found 'x', needed the end of the action");
  EXPECT_EQ(error_of("1UNSHARD3"),
            "f.csv:1:9: in '1UNSHARD3': found '3', needed the end of the action");
  EXPECT_EQ(error_of("(0F0;1B0)"),
            "f.csv:1:10: in '(0F0;1B0)': found the end, needed OVERLAP_F_B behind the pair's ')'");
  EXPECT_EQ(error_of("(0F0;1B0)F"),
            "f.csv:1:10: in '(0F0;1B0)F': a pair ends in OVERLAP_F_B, found F");
  EXPECT_EQ(error_of("()OVERLAP_F_B"), "f.csv:1:2: in '()OVERLAP_F_B': found ')', needed a stage");
  EXPECT_EQ(error_of("(0F0;1B0"), "f.csv:1:9: in '(0F0;1B0': found the end, needed ';' or ')'");
  EXPECT_EQ(error_of("0OVERLAP_F_B"),
            "f.csv:1:2: in '0OVERLAP_F_B': OVERLAP_F_B has members, as in (0F7;7B3)OVERLAP_F_B, "
            "and no stage");
  EXPECT_EQ(error_of(""), "f.csv: the file is empty, needed one row per rank");
  EXPECT_EQ(error_of("0F0\n\n1F0\n"),
            "f.csv:2: the row is empty, needed a rank's actions, as in 0F0,0F1,0B0");
  EXPECT_EQ(error_of("0F0,0f1\n"),
            "f.csv:1:6: in '0f1': found 'f', needed an action type such as F or SEND_F, in "
            "capitals");
  EXPECT_EQ(error_of("0F0,0F1;,0F2\n"),
            "f.csv:1:8: in '0F1;': found ';', needed the end of the action; ';' stands between the "
            "members of a pair only, as in (0F7;7B3)OVERLAP_F_B");
  EXPECT_EQ(error_of("0F0, \x1b \n"), "f.csv:1:6: in '\x1b': found '\\x1b', needed a stage");
  EXPECT_EQ(error_of(",,\n"), "f.csv: the file holds no action, needed at least one");
  EXPECT_EQ(error_of("0F0\n", CsvShape{2, {}, {}, {}}),
            "f.csv: the file has 1 rows, --ranks needs 2");
}

// ---- as spreadsheets and people write it

const std::string kPlain = "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n";

std::string notes_of(const std::string& text) {
  std::vector<std::string> notes;
  const Expected<Schedule> read = read_csv(text, "f.csv", {}, &notes);
  if (!read) return read.error().text();
  EXPECT_EQ(print_csv(*read), kPlain) << text;
  std::string all;
  for (const std::string& note : notes) all += (all.empty() ? "" : "; ") + note;
  return all;
}

TEST(Csv, ErrorsHaveTheirPlaceInFields) {
  const auto wrong = read_csv("0F0,0B0\n(1F0;1B1)OVERLAP_F_B, 1X0\n", "f.csv", {});
  ASSERT_FALSE(wrong);
  const ErrorPlace& place = wrong.error().place;
  EXPECT_EQ(place.file, "f.csv");
  EXPECT_EQ(place.line, 2);
  EXPECT_EQ(wrong.error().where, fmt::format("f.csv:2:{}", place.column));
  EXPECT_EQ(place.rank, 1);
  EXPECT_EQ(place.position, 3);  // behind the pair's header and its members
}

TEST(CsvSheet, QuotesLabelsHeadersAndSeparatorsAreReadAndNoted) {
  EXPECT_EQ(notes_of(kPlain), "");
  EXPECT_EQ(notes_of("\"0F0\",\"0F1\",\"0B0\",\"0B1\"\r\n1F0, \"1B0\" ,1F1,1B1\r\n"), "");
  EXPECT_EQ(notes_of("rank0,0F0,0F1,0B0,0B1\nrank1,1F0,1B0,1F1,1B1\n"),
            "the first column is taken for labels: 'rank0', 'rank1'");
  EXPECT_EQ(notes_of("Rank 1,0F0,0F1,0B0,0B1\nRank 2,1F0,1B0,1F1,1B1\n"),
            "the first column is taken for labels: 'Rank 1', 'Rank 2'");
  EXPECT_EQ(notes_of("0,0F0,0F1,0B0,0B1\n1,1F0,1B0,1F1,1B1\n"),
            "the first column is taken for labels: '0', '1'");
  EXPECT_EQ(notes_of("step0,step1,step2,step3\n" + kPlain),
            "line 1 is taken for a header: 'step0', 'step1', 'step2', 'step3'");
  EXPECT_EQ(notes_of(",0,1,2,3\n0,0F0,0F1,0B0,0B1\n1,1F0,1B0,1F1,1B1\n"),
            "line 1 is taken for a header: '', '0', '1', '2', …; the first column is taken for "
            "labels: '0', '1'");
  EXPECT_EQ(notes_of(kPlain + "\n"), "line 3 is blank and left out");
  EXPECT_EQ(notes_of("\"0F0\",0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n,,,\n"),
            "line 3 is blank and left out");
  EXPECT_EQ(notes_of("0F0;0F1;0B0;0B1\n1F0;1B0;1F1;1B1\n"), "cells are separated by semicolons");
  EXPECT_EQ(notes_of("0F0\t0F1\t0B0\t0B1\n1F0\t1B0\t1F1\t1B1\n"), "cells are separated by tabs");
}

TEST(CsvSheet, PairsKeepTheirSemicolons) {
  const Schedule plain = *read_csv("0F0,0F1,(0F2;0B0)OVERLAP_F_B,0B1,0B2\n", "f", {});
  for (const char* text :
       {"\"0F0\",0F1,\"(0F2;0B0)OVERLAP_F_B\",0B1,0B2\n", "0F0;0F1;(0F2;0B0)OVERLAP_F_B;0B1;0B2\n",
        "r0;0F0;0F1;\"(0F2;0B0)OVERLAP_F_B\";0B1;0B2\n"}) {
    const Expected<Schedule> read = read_csv(text, "f", {});
    ASSERT_TRUE(read) << read.error().text();
    EXPECT_EQ(*read, plain) << text;
  }
}

TEST(CsvSheet, WhatIsNotClearIsRefused) {
  EXPECT_EQ(
      error_of("rank1,1F0,1B0\nrank0,0F0,0B0\n"),
      "f.csv:2: the rows' labels are 'rank1', 'rank0', needed the ranks in ascending order, as "
      "in rank0, rank1");
  EXPECT_EQ(
      error_of("left,0F0,0B0\nright,1F0,1B0\n"),
      "f.csv:1: the rows' labels are 'left', 'right', needed the ranks in ascending order, as "
      "in rank0, rank1");
  EXPECT_EQ(error_of("\"0F0,0B0\n1F0,1B0\n"),
            "f.csv:1: a quote is not closed, needed another on its line");
  // The line is the file's, also behind a header.
  EXPECT_EQ(error_of("step0,step1\n0F0,0B0\n1F0,1x0\n"),
            "f.csv:3: in '1x0': found 'x', needed an action type such as F or SEND_F, in capitals");
  // A wrong cell in a plain file is no header.
  EXPECT_EQ(error_of("0F0,step1\n1F0,1B0\n"), "f.csv:1:5: in 'step1': found 's', needed a stage");
}

TEST(Csv, LettersOfTorch25AreOneHint) {
  const auto hint_of = [](const std::string& text) {
    const Expected<Schedule> read = read_schedule(text, "f.csv", {});
    return read ? "no error" : read.error().text();
  };
  const std::string hint =
      "f.csv: the letters are those of torch 2.5, where B is the backward for inputs (now I) and "
      "BW "
      "the whole one (now B); sed -E 's/([0-9])B([0-9])/\\1I\\2/g; s/BW/B/g' translates them";
  EXPECT_EQ(hint_of("0F0,0B0,0W0\n1F0,1B0,1W0\n"), hint);
  EXPECT_EQ(hint_of("0F0,0BW0\n1F0,1BW0\n"), hint);
  EXPECT_EQ(hint_of("0F0,0F1,0B0,0W0,0BW1\n"), hint);
  // A W that lost its I is not that.
  EXPECT_TRUE(read_schedule("0F0,0F1,0B0,0W1\n", "f", {}));
}

TEST(Csv, AbsurdNumbersAreErrorsNotMemory) {
  EXPECT_EQ(error_of("99999999999999999999F0"),
            "f.csv:1:1: in '99999999999999999999F0': a stage is 99999999999999999999, needs to be "
            "below 1048576");
  EXPECT_EQ(error_of("0F0\n1000000F0"),
            "f.csv:2: 1000000F0 names stage 1000000, which cannot be among 2 actions");
}

TEST(ActionText, NestedPairsGoBothWays) {
  std::vector<Action> list;
  const std::string text = "(0F0;(1B0;1W0)OVERLAP_F_B)OVERLAP_F_B";
  ASSERT_TRUE(parse_action(text, list));
  ASSERT_EQ(list.size(), 5U);
  EXPECT_EQ(list[0].members, 4);
  EXPECT_EQ(list[2].members, 2);
  EXPECT_EQ(print_action_at(list, 0), text);
  EXPECT_FALSE(parse_action("(0F0;1)OVERLAP_F_B", list));
  EXPECT_EQ(list.size(), 5U);  // nothing is left of a failed parse
}

TEST(ActionText, PrintThenParseIsTheIdentity) {
  const std::vector<ActionType> with_microbatch = {
      ActionType::kForward,  ActionType::kBackwardInput, ActionType::kBackwardWeight,
      ActionType::kBackward, ActionType::kSendF,         ActionType::kRecvF,
      ActionType::kSendB,    ActionType::kRecvB};
  EXPECT_TRUE(rc::check([&] {
    const Action action{*rc::gen::inRange(0, 1 << 20), *rc::gen::inRange(0, 1 << 30),
                        *rc::gen::elementOf(with_microbatch), 0};
    std::vector<Action> list;
    RC_ASSERT(parse_action(print_action(action), list).has_value());
    RC_ASSERT(list == std::vector<Action>{action});
  }));
}

TEST(ActionText, NothingCrashesTheParser) {
  EXPECT_TRUE(rc::check([](const std::string& text) {
    std::vector<Action> list;
    if (!parse_action(text, list)) RC_ASSERT(list.empty());
  }));
}

}  // namespace
}  // namespace plait
