#include "plait/passes/passes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "plait/ir/forms/csv.h"
#include "plait/schedule/generators.h"
#include "plait/verify/verify.h"
#include "tests/support/files.h"

namespace plait {
namespace {

struct GoldenCase {
  std::string passes;
  std::string input;
  std::string output;
};

/// Cases of a golden file: lines "passes: SPEC", "in:", rows, "out:", rows; '#' begins a comment.
std::vector<GoldenCase> read_cases(const std::string& text) {
  std::vector<GoldenCase> cases;
  std::string* rows = nullptr;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line.front() == '#') {
      rows = nullptr;
    } else if (line.rfind("passes: ", 0) == 0) {
      cases.push_back({line.substr(8), "", ""});
    } else if (line == "in:") {
      rows = &cases.back().input;
    } else if (line == "out:") {
      rows = &cases.back().output;
    } else if (rows != nullptr) {
      *rows += line + "\n";
    }
  }
  return cases;
}

Schedule run(std::string_view passes, const Schedule& schedule) {
  Expected<Schedule> output = run_passes(passes, schedule);
  EXPECT_TRUE(output) << schedule.name << " " << passes << "\n" << output.error().text();
  return output ? *std::move(output) : Schedule{};
}

void expect_proven(std::string_view passes, const Schedule& schedule) {
  const auto proven = verify(schedule);
  if (proven) return;
  ADD_FAILURE() << schedule.name << " R=" << schedule.placement.ranks
                << " M=" << schedule.microbatches << " " << passes << "\n"
                << proven.error().front().text();
}

/// Every generator over shapes up to four ranks.
template <typename Visit>
void for_small_schedules(Visit visit) {
  int schedules = 0;
  for (const GeneratorInfo& info : kGenerators) {
    for (int ranks = 1; ranks <= 4; ++ranks) {
      for (int microbatches = 1; microbatches <= 3 * ranks + 1; ++microbatches) {
        for (const int chunks : {1, 2, 4}) {
          const Expected<Schedule> schedule =
              generate(info.name, {ranks, microbatches, chunks, true});
          if (!schedule) continue;
          ++schedules;
          visit(*schedule);
        }
      }
    }
  }
  EXPECT_GT(schedules, 500);
}

bool has_pairs(const Schedule& schedule) {
  return std::any_of(schedule.ranks.begin(), schedule.ranks.end(), [](const auto& list) {
    return std::any_of(list.begin(), list.end(),
                       [](const Action& action) { return action.type == ActionType::kOverlapFB; });
  });
}

// Cases of one copy of insert-comm, insert-reduce-grad, merge-backward, defer-recv and of
// insert-unshard at its default were compared with torch's own passes when they were written down.
TEST(EveryPass, HasAGoldenFile) {
  for (const PassInfo& pass : kPasses) {
    const std::string name(pass.name);
    const std::vector<GoldenCase> cases =
        read_cases(testing::read_golden("passes/" + name + ".txt"));
    EXPECT_FALSE(cases.empty()) << name;
    for (const GoldenCase& golden : cases) {
      EXPECT_EQ(golden.passes.substr(0, golden.passes.find('=')), name);
      const Expected<Schedule> output =
          read_csv(golden.input, name, {}).and_then([&](const Schedule& input) {
            return run_passes(golden.passes, input);
          });
      ASSERT_TRUE(output) << name << ": " << output.error().text();
      EXPECT_EQ(print_csv(*output), golden.output) << golden.passes << "\n" << golden.input;
    }
  }
}

TEST(EveryPass, TwiceIsOnce) {
  for_small_schedules([](const Schedule& schedule) {
    const Schedule lowered = run("insert-comm", schedule);
    const Schedule with_waits = run("insert-send-wait", lowered);
    for (const PassInfo& pass : kPasses) {
      if (pass.name == "insert-comm" || pass.name == "pair") continue;
      if (pass.name.starts_with("warm-up")) continue;  // each time one more
      const bool of_messages =
          pass.name == "defer-recv" || pass.name == "place-recv" || pass.name == "insert-send-wait";
      const bool of_waits = pass.name == "limit-sends";
      const Schedule once = run(pass.name, of_waits      ? with_waits
                                           : of_messages ? lowered
                                                         : schedule);
      EXPECT_EQ(run(pass.name, once), once) << schedule.name << " " << pass.name;
    }
  });
}

TEST(EveryGenerator, LoweredAsTorchDoesIsProven) {
  for_small_schedules([](const Schedule& schedule) {
    expect_proven(kLoweringPasses, run(kLoweringPasses, schedule));
    const Schedule waits = run(kLoweringPassesWithWaits, schedule);
    expect_proven(kLoweringPassesWithWaits, waits);
    // All lists hold their messages in one common order: one send at a time is enough.
    expect_proven("limit-sends=1", run("limit-sends=1", waits));
  });
}

TEST(EveryGenerator, PlacedReceivesAreProven) {
  for_small_schedules([](const Schedule& schedule) {
    const Schedule lowered = run("insert-comm", schedule);
    for (const std::string passes : {"place-recv", "place-recv=1", "place-recv=3"})
      expect_proven(passes, run(passes, lowered));
    // However early it is asked for, no receive stands before where insert-comm puts it.
    const Schedule packed = run("drop-idle,insert-comm", schedule);  // idle slots take turns
    EXPECT_EQ(print_csv(run("place-recv=1000000", packed)), print_csv(packed)) << schedule.name;
    // Where receives stood before does not matter.
    EXPECT_EQ(run("place-recv=2,place-recv", lowered), run("place-recv", lowered));
  });
}

TEST(EveryGenerator, PairsAreProvenAndHoldTheSameActions) {
  for_small_schedules([](const Schedule& schedule) {
    for (const std::string passes : {"pair", "pair=1"}) {
      const Schedule paired = run(passes, schedule);
      expect_proven(passes, paired);
      EXPECT_EQ(run("unpair", paired), run("drop-idle,unpair", schedule)) << schedule.name;
      expect_proven(passes, run("insert-comm", paired));
    }
  });
}

TEST(EveryGenerator, SplittingAndMergingUndoEachOther) {
  for_small_schedules([](const Schedule& schedule) {
    expect_proven("split-backward", run("split-backward", schedule));
    expect_proven("merge-backward", run("merge-backward", schedule));
    if (has_pairs(schedule)) return;  // a pair keeps its I
    EXPECT_EQ(run("split-backward,merge-backward", schedule), run("merge-backward", schedule));
  });
}

TEST(EveryGenerator, EachRankReducesEachOfItsStagesOnce) {
  for_small_schedules([](const Schedule& schedule) {
    const Schedule reduced = run("insert-reduce-grad", schedule);
    for (int rank = 0; rank < schedule.placement.ranks; ++rank) {
      std::vector<int> stages;
      for (const Action& action : reduced.ranks[static_cast<std::size_t>(rank)]) {
        const auto at = std::find(stages.begin(), stages.end(), action.stage);
        if (action.type == ActionType::kReduceGrad) {
          stages.push_back(action.stage);
        } else if (is_compute(action.type) && action.type != ActionType::kForward &&
                   action.type != ActionType::kBackwardInput) {
          EXPECT_EQ(at, stages.end()) << "a backward behind the reduction";
        }
      }
      std::sort(stages.begin(), stages.end());
      EXPECT_LE(stages.size(), schedule.placement.stages_of(rank).size());
      if (!schedule.forward_only && schedule.placement.copies == 1) {
        EXPECT_EQ(stages, schedule.placement.stages_of(rank)) << schedule.name;
      }
    }
  });
}

TEST(EveryGenerator, AtMostNStagesAreUnshardedAtATime) {
  for_small_schedules([](const Schedule& schedule) {
    if (has_pairs(schedule)) return;  // a pair brings two at once
    for (const std::size_t most : {1U, 2U, 3U}) {
      const Schedule output = run("insert-unshard=" + std::to_string(most), schedule);
      for (const std::vector<Action>& list : output.ranks) {
        std::vector<int> whole;
        for (const Action& action : list) {
          const auto at = std::find(whole.begin(), whole.end(), action.stage);
          if (action.type == ActionType::kUnshard) {
            EXPECT_EQ(at, whole.end());
            whole.push_back(action.stage);
          } else {
            ASSERT_NE(at, whole.end()) << schedule.name;
            if (action.type == ActionType::kReshard) whole.erase(at);
          }
          EXPECT_LE(whole.size(), most);
        }
        EXPECT_TRUE(whole.empty());
      }
    }
  });
}

// torch's defer_pp_recv: rank 0 sends 0F2 before 3B0, rank 1 awaits them the other way round.
TEST(DeferRecv, TheProofCatchesItsOrder) {
  const auto proven = verify(run("insert-comm,defer-recv", *generate("zbv", {2, 3})));
  ASSERT_FALSE(proven);
  EXPECT_EQ(proven.error().front().rule, "message-order");
  EXPECT_EQ(proven.error().front().rank, 1);
  EXPECT_THAT(proven.error().front().text(), ::testing::HasSubstr("from rank 0"));
}

TEST(DeferRecv, KeepsTheOrderOnEachEdgeOfInterleaved) {
  for (int ranks = 2; ranks <= 5; ++ranks) {
    const auto proven =
        verify(run("insert-comm,defer-recv", *generate("interleaved-1f1b", {ranks, 2 * ranks})));
    if (proven) continue;
    for (const Diagnostic& finding : proven.error()) EXPECT_EQ(finding.rule, "deadlock");
  }
}

TEST(Pair, ACircleInTheInputIsAnError) {
  const Schedule input = *read_csv("0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n", "test", {});
  EXPECT_EQ(run_passes("pair", input).error().text(),
            "test: no rank can go on:\n"
            "  rank 0 position 1 (0B0) waits for the backward of stage 1 micro-batch 0 on rank 1\n"
            "  rank 1 position 0 (1F1) waits for the forward of stage 0 micro-batch 1 on rank 0");
}

TEST(RunPasses, ErrorsNameWhatIsWrong) {
  const Schedule schedule = *generate("1f1b", {2, 4});
  const auto error = [&](std::string_view passes) {
    return run_passes(passes, schedule).error().text();
  };
  EXPECT_THAT(
      error("merge-backwards"),
      ::testing::StartsWith("'merge-backwards' is not a pass (did you mean merge-backward?), "
                            "needed one of: insert-comm, insert-unshard, "));
  EXPECT_THAT(error("xyz"), ::testing::StartsWith("'xyz' is not a pass, needed one of: "));
  EXPECT_THAT(error("unpair,"), ::testing::StartsWith("'' is not a pass, "));
  EXPECT_EQ(error("unpair=3"), "unpair=3: unpair takes no number");
  EXPECT_EQ(error("insert-unshard=0"),
            "insert-unshard: found '0', needed a number of at least 1: stages of a rank that are "
            "unsharded at a time");
  EXPECT_THAT(error("place-recv="), ::testing::StartsWith("place-recv: found '', needed a number"));
  EXPECT_THAT(error("insert-comm,place-recv=9999999999"),
              ::testing::StartsWith("place-recv: found '9999999999', needed a number"));
  EXPECT_EQ(error("defer-recv"),
            "1f1b: found no communication, needed a lowered schedule: insert-comm goes before");
  EXPECT_EQ(error("insert-comm,pair"),
            "1f1b: rank 0 position 1: found 0SEND_F0, needed a schedule without communication");
}

TEST(RunPasses, AnActionOnAWrongRankIsAnError) {
  Schedule schedule = *generate("1f1b", {2, 4});
  std::swap(schedule.ranks[0], schedule.ranks[1]);
  for (const PassInfo& pass : kPasses) {
    const Expected<Schedule> output = run_passes(pass.name, schedule);
    ASSERT_FALSE(output) << pass.name;
    EXPECT_EQ(output.error().text(),
              "1f1b: rank 0 position 0: found 1F0, needed on rank 1 by the placement");
  }
}

}  // namespace
}  // namespace plait
