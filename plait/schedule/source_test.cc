#include "plait/schedule/source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "plait/ir/forms/text_forms.h"
#include "plait/verify/verify.h"

namespace plait {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;
using Cells = std::vector<std::vector<std::string>>;

Cells cells_of(const std::string& csv) {
  Cells rows(1);
  std::string cell;
  for (const char c : csv) {
    if (c != ',' && c != '\n') {
      cell += c;
      continue;
    }
    rows.back().push_back(std::move(cell));
    cell.clear();
    if (c == '\n') rows.emplace_back();
  }
  rows.pop_back();
  return rows;
}

std::string csv_of(const Cells& rows) {
  std::string csv;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) csv += (i > 0 ? "," : "") + row[i];
    csv += '\n';
  }
  return csv;
}

/// What a user hears of a 4-rank CSV with a mistake: the parser's error, or every finding.
std::vector<std::string> heard(const std::string& csv, const CsvShape& shape = {}) {
  const Expected<Schedule> schedule = read_schedule(csv, "f.csv", shape);
  if (!schedule) return {schedule.error().text()};
  const auto verified = verify(*schedule);
  std::vector<std::string> texts;
  if (verified) return texts;
  for (const Diagnostic& finding : verified.error()) texts.push_back(finding.text());
  return texts;
}

class Mistakes : public ::testing::Test {
 protected:
  /// dualpipe-v with its golden's shape: 4 ranks, 8 stages, 10 micro-batches.
  Cells cells_ = cells_of(print_csv(*generate("dualpipe-v", {4, 10})));

  std::string& cell(std::size_t rank, const std::string& text) {
    auto& row = cells_[rank];
    const auto found = std::find(row.begin(), row.end(), text);
    EXPECT_NE(found, row.end()) << text;
    return *found;
  }
  std::vector<std::string> heard_now(const CsvShape& shape = {}) {
    return heard(csv_of(cells_), shape);
  }
};

TEST_F(Mistakes, NoneIsNone) { EXPECT_THAT(heard_now(), ::testing::IsEmpty()); }

TEST_F(Mistakes, ALetterThatIsNoType) {
  cell(0, "0F3") = "0G3";
  EXPECT_THAT(heard_now(),
              ElementsAre("f.csv:1:14: in '0G3': 'G' is not an action type (F, I, W, B, SEND_F, "
                          "RECV_F, SEND_B, RECV_B, UNSHARD, RESHARD, REDUCE_GRAD, "
                          "WAIT_SEND_F, WAIT_SEND_B, WAIT_REDUCE_GRAD)"));
}

TEST_F(Mistakes, ALowerCaseLetter) {
  cell(0, "0F3") = "0f3";
  EXPECT_THAT(heard_now(), ElementsAre("f.csv:1:14: in '0f3': found 'f', needed an action type "
                                       "such as F or SEND_F, in capitals"));
}

TEST_F(Mistakes, AStraySemicolon) {
  cell(0, "0F3") = "0F3;";
  EXPECT_THAT(heard_now(),
              ElementsAre("f.csv:1:16: in '0F3;': found ';', needed the end of the action; ';' "
                          "stands between the members of a pair only, as in "
                          "(0F7;7B3)OVERLAP_F_B"));
}

TEST_F(Mistakes, APairWithoutItsType) {
  cell(0, "(0F7;7B3)OVERLAP_F_B") = "(0F7;7B3)";
  EXPECT_THAT(heard_now(), ElementsAre("f.csv:1:78: in '(0F7;7B3)': found ',', needed OVERLAP_F_B "
                                       "behind the pair's ')'"));
}

TEST_F(Mistakes, TwoCellsSwapped) {
  std::swap(cell(0, "7F1"), cell(0, "7I1"));
  EXPECT_THAT(heard_now(), ElementsAre(HasSubstr("rank 0 position 10: 7I1 needs 7F1")));
}

TEST_F(Mistakes, ACellTwice) {
  cells_[0].insert(cells_[0].begin() + 4, "0F3");
  EXPECT_THAT(heard_now(), ElementsAre(HasSubstr("rank 0 position 4: 0F3 stands here again")));
}

TEST_F(Mistakes, ACellMissing) {
  cells_[0].erase(cells_[0].begin() + 3);
  EXPECT_THAT(heard_now(), ElementsAre(HasSubstr("0F3 is missing")));
}

TEST_F(Mistakes, ACellOnTheWrongRank) {
  cell(0, "0F3") = "1F3";
  EXPECT_THAT(heard_now(),
              UnorderedElementsAre(HasSubstr("rank 0 position 3: 1F3 stands on rank 0, stage 1 is "
                                             "held by rank 1"),
                                   HasSubstr("0F3 is missing")));
}

TEST_F(Mistakes, AMicrobatchOutOfPlace) {
  cell(0, "0F3") = "0F5";
  EXPECT_THAT(heard_now(),
              UnorderedElementsAre(HasSubstr("rank 0 position 5: 0F5 stands here again"),
                                   HasSubstr("0F3 is missing")));
}

TEST_F(Mistakes, AMicrobatchThatIsNone) {
  cell(0, "0F3") = "0F33";
  EXPECT_THAT(heard_now(),
              UnorderedElementsAre(HasSubstr("rank 0 position 3: 0F33 names micro-batch 33, needs "
                                             "one below 10"),
                                   HasSubstr("0F3 is missing")));
}

TEST_F(Mistakes, ARowMissing) {
  cells_.pop_back();
  EXPECT_THAT(heard_now(),
              ElementsAre("f.csv: no row computes stage 3 of 8, needed all; is a row missing?"));
  EXPECT_THAT(heard_now({4, {}, {}, {}}),
              ElementsAre("f.csv: the file has 3 rows, --ranks needs 4"));
}

TEST_F(Mistakes, ABlankLine) {
  EXPECT_THAT(heard("\n" + csv_of(cells_)),
              ElementsAre("f.csv:1: the row is empty, needed a rank's actions, as in 0F0,0F1,0B0"));
  EXPECT_THAT(heard(csv_of(cells_) + "\n"), ::testing::IsEmpty());  // behind the last row: a note
}

// Nothing in the file says that there should be a tenth micro-batch.
TEST_F(Mistakes, TheLastMicrobatchMissing) {
  const std::string nine = print_csv(*generate("dualpipe-v", {4, 9}));
  EXPECT_THAT(heard(nine), ::testing::IsEmpty());
  EXPECT_THAT(heard(nine, {{}, {}, 10, {}}), Contains(HasSubstr("0F9 is missing")));
}

// A schedule whose V is open makes one more stage a rank; the others refuse it.
TEST(Names, ChunksAreFixedWhereOneMoreIsRefused) {
  for (const GeneratorInfo& info : kGenerators) {
    bool taken = false;
    for (const int chunks : {info.default_chunks + 1, info.default_chunks + 2})
      taken = taken || info.generate({4, 16, chunks, true}).has_value();
    EXPECT_EQ(taken, info.chunks == Chunks::kOpen) << info.name;
  }
}

TEST(Source, TorchsNamesAreNamesToo) {
  for (const auto& [torch, ours] : {std::pair{"1F1B", "1f1b"},
                                    {"GPipe", "gpipe"},
                                    {"gpipe", "gpipe"},
                                    {"Interleaved1F1B", "interleaved-1f1b"},
                                    {"LoopedBFS", "looped-bfs"},
                                    {"interleavedzerobubble", "interleaved-zero-bubble"},
                                    {"ZBVZeroBubble", "zbv"},
                                    {"DUALPIPEV", "dualpipe-v"}}) {
    const auto found = find_schedule(torch);
    ASSERT_TRUE(found) << torch;
    ASSERT_NE(*found, nullptr) << torch;
    EXPECT_EQ((*found)->name, ours);
  }
}

TEST(Names, EachNameFindsItsOwnRow) {
  for (const GeneratorInfo& info : kGenerators) {
    EXPECT_EQ(find_generator(info.name), &info);
    if (!info.torch_name.empty()) {
      EXPECT_EQ(find_generator(info.torch_name), &info);
    }
  }
  EXPECT_EQ(find_generator(""), nullptr);
}

TEST(Source, WhatIsNeitherAFileNorANameSaysSo) {
  EXPECT_THAT(find_schedule("nothere.csv").error().text(),
              HasSubstr("'nothere.csv' is neither a file nor a schedule's name"));
  EXPECT_THAT(find_schedule("dualpipe-w").error().text(), HasSubstr("did you mean dualpipe"));
}

TEST(Source, AFolderHidesNoName) {
  const std::filesystem::path before = std::filesystem::current_path();
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / "source_test_cwd";
  std::filesystem::create_directories(folder / "1f1b");
  std::filesystem::create_directories(folder / "mine");
  std::filesystem::current_path(folder);
  const auto name = find_schedule("1f1b");
  const auto other = find_schedule("mine");
  std::ofstream("gpipe") << "0F0,0B0\n";
  const auto file = find_schedule("gpipe");
  const auto standard_input = find_schedule("-");
  std::filesystem::current_path(before);
  std::filesystem::remove_all(folder);
  ASSERT_TRUE(name);
  EXPECT_NE(*name, nullptr);
  EXPECT_EQ(other.error().text(), "mine: is a folder, needed a file that holds a schedule");
  EXPECT_EQ(file.value(), nullptr);
  EXPECT_EQ(standard_input.value(), nullptr);
}

TEST(Source, ReadsFilesOfEveryForm) {
  const Schedule schedule = *generate("dualpipe", {4, 8});
  const std::string path = ::testing::TempDir() + "source_test_schedule";
  for (const FormInfo& form : kForms) {
    std::ofstream(path) << form.print(schedule);
    const Expected<Schedule> read = schedule_by_name_or_file(path, {});
    ASSERT_TRUE(read) << read.error().text();
    EXPECT_EQ(read->name, path);
    EXPECT_EQ(read->ranks, schedule.ranks);
    EXPECT_EQ(read->placement, schedule.placement);
  }
  std::remove(path.c_str());
  EXPECT_EQ(schedule_by_name_or_file(::testing::TempDir(), {}).error().message,
            "is a folder, needed a file that holds a schedule");
}

}  // namespace
}  // namespace plait
