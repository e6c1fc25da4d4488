#include "plait/passes/lowering.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "plait/ir/forms/csv.h"
#include "plait/passes/insert_comm.h"
#include "plait/passes/passes.h"
#include "plait/schedule/generators.h"
#include "plait/verify/verify.h"
#include "tests/support/files.h"

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
            "--unshard-lookahead: found '4' for rank 2, needed a number from 1 to 3, the "
            "stages that may be active");
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

TEST(WaitForSends, WaitsAreAddedAndNoMoreSendsAreOutstanding) {
  const Schedule sends = *insert_comm(*generate("zbv", {4, 8}));
  const Schedule waits = *wait_for_sends(sends, 2);
  EXPECT_TRUE(verify(waits));
  EXPECT_EQ(*wait_for_sends(waits, 2), waits);
  int most = 0;
  for (const std::vector<Action>& list : waits.ranks) {
    int outstanding = 0;
    for (const Action& action : list) {
      outstanding += is_send(action.type) ? 1 : is_send_wait(action.type) ? -1 : 0;
      most = std::max(most, outstanding);
    }
    EXPECT_EQ(outstanding, 0);
  }
  EXPECT_EQ(most, 2);
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
