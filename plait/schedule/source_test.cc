#include "plait/schedule/source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "plait/ir/text_forms.h"
#include "plait/verify/verify.h"

namespace plait {
namespace {

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
  for (auto& t : heard_now()) puts(t.c_str());
  puts("-- lower");
  cell(0, "0G3") = "0f3";
  for (auto& t : heard_now()) puts(t.c_str());
  puts("-- semicolon");
  cell(0, "0f3") = "0F3;";
  for (auto& t : heard_now()) puts(t.c_str());
  puts("-- two swapped cells");
  cell(0, "0F3;") = "0F3";
  std::swap(cell(0, "7I1"), cell(0, "7F1"));
  for (auto& t : heard_now()) puts(t.c_str());
  std::swap(cell(0, "7I1"), cell(0, "7F1"));
  puts("-- duplicated");
  cells_[0].insert(cells_[0].begin() + 4, "0F3");
  for (auto& t : heard_now()) puts(t.c_str());
  cells_[0].erase(cells_[0].begin() + 4);
  puts("-- missing");
  cells_[0].erase(cells_[0].begin() + 3);
  for (auto& t : heard_now()) puts(t.c_str());
  cells_[0].insert(cells_[0].begin() + 3, "0F3");
  puts("-- wrong rank");
  cell(0, "0F3") = "1F3";
  for (auto& t : heard_now()) puts(t.c_str());
  cell(0, "1F3") = "0F3";
  puts("-- missing row");
  auto row = cells_[3];
  cells_.pop_back();
  for (auto& t : heard_now()) puts(t.c_str());
  puts("-- missing row with ranks");
  for (auto& t : heard_now({4, {}, {}, {}})) puts(t.c_str());
  cells_.push_back(row);
  puts("-- pair without");
  cell(0, "(0F7;7B3)OVERLAP_F_B") = "(0F7;7B3)";
  for (auto& t : heard_now()) puts(t.c_str());
  cell(0, "(0F7;7B3)") = "(0F7;7B3)OVERLAP_F_B";
  puts("-- mb out of place");
  cell(0, "0F3") = "0F33";
  for (auto& t : heard_now()) puts(t.c_str());
  cell(0, "0F33") = "0F5";
  for (auto& t : heard_now()) puts(t.c_str());
}

}  // namespace
}  // namespace plait
