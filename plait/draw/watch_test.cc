#include "plait/draw/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <utility>

namespace plait {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

TimelineEvent event_of(int rank, ActionType type, int stage, Nanoseconds begin, Nanoseconds end,
                       Lane lane = Lane::kCompute) {
  TimelineEvent event;
  event.rank = rank;
  event.lane = lane;
  event.action = {stage, 0, type, 0};
  event.begin = begin;
  event.end = end;
  return event;
}

/// Step 12 of 48 on two ranks: 10 ms of which rank 1 waits 2 at first and 3 for bytes.
RunView example() {
  RunView run;
  run.folder = "runs/job";
  run.begun = true;
  run.steps = 48;
  StepLine line;
  line.step = 12;
  line.loss = 2;
  line.grad_norm = 0.8125;
  line.learning_rate = 3e-3;
  line.tokens = 1000;
  line.step_ns = 12'500'000;
  line.bubble_share = {0.2, 0.6};
  line.fill_ns = {0, 2'000'000};
  line.steady_ns = {2'000'000, 3'000'000};
  line.drain_ns = {0, 1'000'000};
  line.exposed_comm_ns = {500'000, 3'000'000};
  line.peak_activation_bytes = {4'000'000, 1'000'000};
  line.cpu_ns = {11'000'000, 5'000'000};
  run.last = line;
  for (int step = 1; step <= 12; ++step) run.losses.push_back({step, 24.0 / step});
  run.validations = {{6, 5}, {12, 3}};
  run.elapsed_ns = 12'000'000'000;
  run.timeline =
      Timeline{2,
               {event_of(0, ActionType::kForward, 0, 0, 2'000'000),
                event_of(0, ActionType::kBackward, 0, 7'000'000, 10'000'000),
                event_of(1, ActionType::kRecvF, 1, 2'000'000, 3'000'000, Lane::kCommunication),
                event_of(1, ActionType::kForward, 1, 3'000'000, 5'000'000),
                event_of(1, ActionType::kBackward, 1, 5'000'000, 7'000'000)},
               11};
  return run;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

ScreenStyle style(int columns, int rows, std::string keys = "") {
  return {.colour = false, .columns = columns, .rows = rows, .cores = 0, .keys = std::move(keys)};
}

TEST(Watch, AKilledRunIsNotTakenForASlowOne) {
  RunView run = example();
  run.killed = true;
  run.quiet_ns = 61'000'000'000;
  const std::vector<std::string> lines = draw_run(run, style(80, 24));
  EXPECT_EQ(lines[1], "was killed after step 12: no process runs it any more, since 61 s");
}

RunView of_ranks(int ranks) {
  RunView run = example();
  const auto size = static_cast<std::size_t>(ranks);
  StepLine& line = *run.last;
  for (auto* list : {&line.fill_ns, &line.steady_ns, &line.drain_ns, &line.exposed_comm_ns,
                     &line.cpu_ns, &line.peak_activation_bytes})
    list->resize(size);
  line.bubble_share.resize(size);
  run.timeline->ranks = ranks;
  return run;
}

TEST(Watch, AWholeScreen) {
  EXPECT_EQ(joined(draw_run(example(), style(80, 24, "q quits"))),
            R"(runs/job  step 12/48  loss 2.0000  norm 0.812  lr 3.00e-03  80000 tok/s
[#######.......................] 25%  0:36 left

loss 24.0000 to 2.0000  o validation 3.0000 after step 12
     24 ⠑⢄
          ⠣⡀
           ⠈⠢⡀
             ⠈⢆⣀
                ⠉⠒⠢⢄⣀
                     ⠉⠉⠑⠒⠒⠤⠤⠤⢄⣀⣀⣀⣀      o
      2                           ⠉⠉⠉⠉⠉⠉⠑⠒⠒⠒⠒⠒⠒⠒⠒⠒⠢⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⢄⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀o
        1                                                                     12

rank  bubble    fill  steady   drain    exposed         peak MB              cpu
   0  20.0 %   0.0 %  20.0 %   0.0 %     0.5 ms   5.0 %     4.0 #########   88 %
   1  60.0 %  20.0 %  30.0 %  10.0 %     3.0 ms  30.0 %     1.0 ##          40 %

lanes of step 11
rank 0 f0-------------....................................b0--------------------
rank 1 ......................f0-------------b0------------......................
  comm ...............<0-----...................................................
       0                                                                   10 ms
f forward  b backward  i, w backward for inputs, for weights  . idle  < receive
q quits
)");
}

TEST(Watch, CommunicationThenRowsAreLeftOutWhereThereIsNoRoom) {
  EXPECT_EQ(joined(draw_run(of_ranks(8), style(80, 24))),
            R"(runs/job  step 12/48  loss 2.0000  norm 0.812  lr 3.00e-03  80000 tok/s
[#######.......................] 25%  0:36 left
loss 24.0000 to 2.0000  o validation 3.0000 after step 12
     24 ⠉⠒⠤⣀
            ⠉⠒⠤⠤⢄⣀⣀⡀
      2            ⠈⠉⠉⠉⠉⠑⠒⠒⠒⠒⠒⠒⠒⠒⠤⠤⠤⠤⠤⠤⠤o⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⢄⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀o
        1                                                                     12
rank  bubble    fill  steady   drain    exposed         peak MB              cpu
   0  20.0 %   0.0 %  20.0 %   0.0 %     0.5 ms   5.0 %     4.0 #########   88 %
   1  60.0 %  20.0 %  30.0 %  10.0 %     3.0 ms  30.0 %     1.0 ##          40 %
   2   0.0 %   0.0 %   0.0 %   0.0 %     0.0 ms   0.0 %     0.0              0 %
   3   0.0 %   0.0 %   0.0 %   0.0 %     0.0 ms   0.0 %     0.0              0 %
   4   0.0 %   0.0 %   0.0 %   0.0 %     0.0 ms   0.0 %     0.0              0 %
   5   0.0 %   0.0 %   0.0 %   0.0 %     0.0 ms   0.0 %     0.0              0 %
(2 more ranks)
lanes of step 11
rank 0 f0-------------....................................b0--------------------
rank 1 ......................f0-------------b0------------......................
rank 2 .........................................................................
rank 3 .........................................................................
rank 4 .........................................................................
rank 5 .........................................................................
rank 6 .........................................................................
(3 more rows)
)");
  EXPECT_EQ(joined(draw_run(example(), style(40, 9))), R"(runs/job  step 12/48  loss 2.0000
norm 0.812  lr 3.00e-03  80000 tok/s
[#######.......................] 25%
0:36 left
rank  bubble    fill  steady   drain
(2 more ranks)
lanes of step 11
rank 0 f0-----................b0--------
(3 more rows)
)");
}

TEST(Watch, FillsEveryTerminal) {
  const RunView run = of_ranks(8);
  for (int rows = 1; rows < 60; ++rows) {
    for (const int columns : {1, 20, 80, 200}) {
      const auto lines = draw_run(run, style(columns, rows, rows % 2 == 0 ? "" : "q quits"));
      EXPECT_THAT(lines, SizeIs(rows));
    }
  }
}

TEST(Watch, SaysHowTheRunIs) {
  const auto text = [](const RunView& run) { return joined(draw_run(run, style(200, 0))); };
  RunView run;
  run.folder = "runs/job";
  EXPECT_EQ(text(run), "runs/job  no step has ended yet\n");
  run = example();
  EXPECT_THAT(text(run), Not(HasSubstr("nothing new")));
  run.quiet_ns = 11'000'000'000;  // a step takes 1 s
  EXPECT_THAT(text(run), HasSubstr("0:36 left  nothing new for 11 s\n"));
  run.ended = true;
  EXPECT_THAT(text(run), HasSubstr("\nstopped after step 12, the model is in runs/job/model\n"));
  run.steps = 12;
  EXPECT_THAT(text(run), HasSubstr("\nended after step 12, the model is in runs/job/model\n"));
}

TEST(Watch, NumbersOfAnotherRunsMetricsAreShown) {
  RunView run = example();
  constexpr Nanoseconds kMost = std::numeric_limits<Nanoseconds>::max();
  run.last->step = std::numeric_limits<int>::max();
  run.last->fill_ns = run.last->steady_ns = run.last->peak_activation_bytes = {kMost, -kMost};
  run.elapsed_ns = run.quiet_ns = kMost;
  EXPECT_THAT(joined(draw_run(run, style(80, 24))), HasSubstr("] 100%"));
}

TEST(Watch, SaysIfRanksShareCores) {
  ScreenStyle one_core = style(80, 0);
  one_core.cores = 1;
  EXPECT_THAT(joined(draw_run(example(), one_core)),
              HasSubstr("oversubscribed: 2 ranks on 1 cores"));
}

TEST(Watch, AReferenceRunHasNoLanes) {
  RunView run = example();
  run.timeline.reset();
  StepLine& line = *run.last;
  for (auto* list : {&line.fill_ns, &line.steady_ns, &line.drain_ns, &line.exposed_comm_ns})
    list->clear();
  line.bubble_share.clear();
  line.cpu_ns.resize(1);
  line.peak_activation_bytes.resize(1);
  const std::string text = joined(draw_run(run, style(80, 0)));
  EXPECT_THAT(text,
              HasSubstr("\n   0       -       -       -       -          -             4.0 ####"));
  EXPECT_THAT(text, Not(HasSubstr("lanes")));
}

TEST(Watch, ColoursDoNotCountAsColumns) {
  RunView run = example();
  ScreenStyle coloured = style(80, 24);
  coloured.colour = true;
  std::string text = joined(draw_run(run, coloured));
  EXPECT_THAT(text, HasSubstr("\x1b[48;5;215;38;5;16mf0---"));
  for (std::size_t at = 0; (at = text.find('\x1b')) != std::string::npos;)
    text.erase(at, text.find('m', at) + 1 - at);
  EXPECT_EQ(text, joined(draw_run(run, style(80, 24))));
}

}  // namespace
}  // namespace plait
