// Every generator has a picture under tests/golden/schedules/, whose first line is the command that
// draws it, and a row in docs/schedules.md.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "plait/draw/ascii.h"
#include "plait/schedule/generators.h"
#include "tests/support/files.h"

namespace plait {
namespace {

constexpr const char* kFolder = "tests/golden/schedules";

class EveryGeneratorsPicture : public ::testing::TestWithParam<GeneratorInfo> {};

TEST_P(EveryGeneratorsPicture, IsTheGolden) {
  const std::string name(GetParam().name);
  const std::string golden = testing::read_golden("schedules/" + name + ".txt");
  std::istringstream command(golden.substr(0, golden.find('\n')));
  std::string prompt, plait, show, schedule, ranks_flag, microbatches_flag;
  ScheduleShape shape;
  command >> prompt >> plait >> show >> schedule >> ranks_flag >> shape.ranks >>
      microbatches_flag >> shape.microbatches;
  ASSERT_EQ(golden.substr(0, golden.find('\n')),
            "$ plait show " + name + " --ranks " + std::to_string(shape.ranks) +
                " --microbatches " + std::to_string(shape.microbatches));
  const Expected<Schedule> made = generate(name, shape);
  ASSERT_TRUE(made) << made.error().text();
  EXPECT_EQ(*draw_schedule(*made, {}), golden.substr(golden.find('\n') + 1));
}

INSTANTIATE_TEST_SUITE_P(Generators, EveryGeneratorsPicture, ::testing::ValuesIn(kGenerators),
                         [](const auto& generator) {
                           std::string name(generator.param.name);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return "_" + name;
                         });

std::set<std::string> names_of_generators() {
  std::set<std::string> names;
  for (const GeneratorInfo& info : kGenerators) names.emplace(info.name);
  return names;
}

TEST(Goldens, EachBelongsToAGenerator) {
  std::set<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder))
    files.insert(entry.path().stem().string());
  EXPECT_EQ(files, names_of_generators());
}

/// The cells of each row of the table whose first cell is a `name`, by that name.
std::map<std::string, std::vector<std::string>> rows_of_the_document() {
  std::map<std::string, std::vector<std::string>> rows;
  std::istringstream document(testing::read_text("docs/schedules.md"));
  for (std::string line; std::getline(document, line);) {
    if (!line.starts_with("| `")) continue;
    std::vector<std::string> cells;
    std::istringstream text(line.substr(1));
    for (std::string cell; std::getline(text, cell, '|');) {
      const std::size_t first = cell.find_first_not_of(' ');
      cells.push_back(first == std::string::npos
                          ? ""
                          : cell.substr(first, cell.find_last_not_of(' ') + 1 - first));
    }
    const std::string name = cells.front().substr(1, cells.front().size() - 2);
    EXPECT_TRUE(rows.emplace(name, cells).second) << name << " has two rows";
  }
  return rows;
}

TEST(Document, HasARowForEveryGeneratorWithItsNeedsAndSource) {
  const std::map<std::string, std::vector<std::string>> rows = rows_of_the_document();
  for (const GeneratorInfo& info : kGenerators) {
    const auto row = rows.find(std::string(info.name));
    ASSERT_NE(row, rows.end()) << info.name << " is not in docs/schedules.md";
    ASSERT_EQ(row->second.size(), 7U) << info.name;
    EXPECT_EQ(row->second[2], info.needs) << info.name;
    EXPECT_EQ(row->second[6], info.source) << info.name;
  }
  EXPECT_EQ(rows.size(), kGenerators.size()) << "a row without a generator";
}

}  // namespace
}  // namespace plait
