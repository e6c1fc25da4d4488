#include "plait/passes/lowering.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "plait/ir/forms/csv.h"
#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"
#include "plait/verify/verify.h"
#include "tests/support/files.h"
#include "tests/support/sha256.h"

namespace plait {
namespace {

using ::testing::HasSubstr;

Expected<Schedule> lower(const std::string& name, const ScheduleShape& shape,
                         const LoweringOptions& options = {}) {
  PLAIT_TRY(Schedule schedule, generate(name, shape));
  PLAIT_TRY(Lowered lowered, lower_as_torch(std::move(schedule), options));
  return std::move(lowered.schedule);
}

std::string text_of(const Expected<Schedule>& schedule) {
  return schedule ? print_csv(*schedule) : schedule.error().text();
}

const std::map<std::string, std::string> kOurNames{
    {"ZBVZeroBubble", "zbv"},
    {"InterleavedZeroBubble", "interleaved-zero-bubble"},
    {"Interleaved1F1B", "interleaved-1f1b"},
    {"LoopedBFS", "looped-bfs"},
    {"DualPipeV", "dualpipe-v"}};

/// Cells of a row; a cell in quotes may hold commas.
std::vector<std::string> cells_of(const std::string& row) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (const char c : row) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      cells.emplace_back();
    } else {
      cells.back() += c;
    }
  }
  return cells;
}

/// What torch 2.15 was asked for in a row of tests/golden/torch-2.15-lowered.csv, and what it made.
struct TorchRow {
  std::string schedule;
  ScheduleShape shape;
  LoweringOptions options;
  std::string bytes;
  std::string sha256;  // or ValueError
};

TorchRow read_row(const std::string& text) {
  const std::vector<std::string> cells = cells_of(text);
  TorchRow row;
  row.schedule = kOurNames.at(cells[0]);
  row.shape = {std::stoi(cells[1]), std::stoi(cells[2]), std::stoi(cells[3])};
  if (!cells[4].empty()) row.options.max_active_stages = std::stoi(cells[4]);
  if (!cells[5].empty()) row.options.unshard_lookahead = cells[5];
  std::erase_if(row.options.unshard_lookahead,
                [](char c) { return c == '(' || c == ')' || c == ' '; });
  row.options.defer_reduce_grad_wait = cells[6] == "True";
  if (!cells[7].empty()) row.options.max_outstanding_sends = std::stoi(cells[7]);
  row.options.defer_recv = cells[8] == "True";
  row.bytes = cells[9];
  row.sha256 = cells[10];
  return row;
}

TEST(Sha256, OfTheStandardsExamples) {
  EXPECT_EQ(testing::sha256("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(testing::sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(LowerAsTorch, IsTorch215ToTheByte) {
  std::istringstream rows(testing::read_golden("torch-2.15-lowered.csv"));
  std::string text;
  std::getline(rows, text);  // the names of the columns
  int equal = 0, refused = 0;
  while (std::getline(rows, text)) {
    const TorchRow row = read_row(text);
    const Expected<Schedule> lowered = lower(row.schedule, row.shape, row.options);
    if (row.sha256 == "ValueError") {
      EXPECT_FALSE(lowered) << text;
      ++refused;
      continue;
    }
    ASSERT_TRUE(lowered) << text << "\n" << lowered.error().text();
    const std::string ours = print_csv(*lowered);
    EXPECT_EQ(std::to_string(ours.size()), row.bytes) << text;
    EXPECT_EQ(testing::sha256(ours), row.sha256) << text;
    ++equal;
  }
  EXPECT_EQ(equal, 98);
  EXPECT_EQ(refused, 12);
}

TEST(LowerAsTorch, WholeFilesOfTorch215) {
  const auto golden = [](const std::string& name) {
    return testing::read_golden("torch-2.15/" + name + ".csv");
  };
  EXPECT_EQ(text_of(lower("dualpipe-v", {2, 4})), golden("dualpipev_2ranks_4mb"));
  LoweringOptions options;
  options.max_outstanding_sends = 2;
  EXPECT_EQ(text_of(lower("zbv", {2, 4}, options)), golden("zbv_2ranks_4mb_sends2"));
  options = {};
  options.max_active_stages = 2;
  options.unshard_lookahead = "auto";
  options.defer_reduce_grad_wait = true;
  EXPECT_EQ(text_of(lower("interleaved-1f1b", {2, 4, 3}, options)),
            golden("interleaved1f1b_2ranks_4mb_3chunks_lookahead_auto_active2"));
}

TEST(LowerAsTorch, WithoutOptionsIsTheTablesPasses) {
  for (const GeneratorInfo& info : kGenerators) {
    const Expected<Schedule> schedule = generate(info.name, {4, 12});
    ASSERT_TRUE(schedule) << info.name;
    LoweringOptions old;
    old.dialect = Dialect::kTorch213;
    EXPECT_EQ(text_of(lower(std::string(info.name), {4, 12})),
              text_of(run_passes(kLoweringPassesWithWaits, *schedule)));
    EXPECT_EQ(text_of(lower(std::string(info.name), {4, 12}, old)),
              text_of(run_passes(kLoweringPasses, *schedule)));
  }
}

// What does not fit is wrong use, with the numbers.
TEST(LowerAsTorch, OptionsOutOfRangeAreErrors) {
  const auto error = [](auto set, const std::string& name = "interleaved-1f1b") {
    LoweringOptions options;
    set(options);
    const Expected<Schedule> lowered = lower(name, {4, 8}, options);
    EXPECT_FALSE(lowered);
    if (lowered) return std::string();
    EXPECT_EQ(lowered.error().code, ErrorCode::kInvalidInput);
    return lowered.error().text();
  };
  EXPECT_EQ(error([](auto& options) { options.max_active_stages = 0; }),
            "--max-active-stages: found 0, needed a number of at least 1");
  EXPECT_THAT(error([](auto& options) { options.max_active_stages = 1; }, "dualpipe-v"),
              ::testing::MatchesRegex("--max-active-stages: found 1, needed at least 2: "
                                      ".0F7;7B3.OVERLAP_F_B on rank 0 computes two stages"));
  EXPECT_EQ(error([](auto& options) { options.unshard_lookahead = "1,2,4,1"; }),
            "--unshard-lookahead: found '4' for rank 2, needed a number from 1 to 3, "
            "--max-active-stages");
  EXPECT_EQ(error([](auto& options) { options.unshard_lookahead = "1,2,3"; }),
            "--unshard-lookahead: found 3 numbers, needed full, auto, or one for each of 4 ranks");
  EXPECT_THAT(error([](auto& options) { options.unshard_lookahead = "most"; }),
              HasSubstr("found 'most' for rank 0"));
  EXPECT_EQ(error([](auto& options) { options.max_outstanding_sends = -1; }),
            "--max-outstanding-sends: found -1, needed a number of at least 0, or min");
  EXPECT_THAT(
      error([](auto& options) { options.max_outstanding_sends = 0; }),
      HasSubstr("found 0 outstanding sends a rank, needed at least 1: a send is outstanding "
                "until its wait"));
  EXPECT_EQ(error([](auto& options) {
              options.dialect = Dialect::kTorch213;
              options.max_outstanding_sends = 1;
            }),
            "--max-outstanding-sends: is about waits, torch 2.13 has none: needed --dialect "
            "torch-2.15");
}

TEST(InDialect, WaitsAreAddedAndTakenOut) {
  for (const GeneratorInfo& info : kGenerators) {
    const std::string name(info.name);
    LoweringOptions old;
    old.dialect = Dialect::kTorch213;
    const Schedule without = *lower(name, {4, 12}, old);
    EXPECT_EQ(dialect_of(without), Dialect::kTorch213) << name;
    const Schedule with = *in_dialect(without, Dialect::kTorch215);
    EXPECT_EQ(dialect_of(with), Dialect::kTorch215) << name;
    EXPECT_TRUE(verify(with)) << name;
    EXPECT_EQ(*in_dialect(with, Dialect::kTorch215), with) << name;
    EXPECT_EQ(*in_dialect(with, Dialect::kTorch213), without) << name;
    const Schedule order = *generate(name, {4, 12});
    EXPECT_EQ(dialect_of(order), std::nullopt) << name;
    EXPECT_EQ(*in_dialect(order, Dialect::kTorch215), order) << name;
  }
}

}  // namespace
}  // namespace plait
