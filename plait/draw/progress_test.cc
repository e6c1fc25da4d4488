#include "plait/draw/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>

namespace plait {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

StepLine example() {
  StepLine line;
  line.step = 12;
  line.loss = 2.34567;
  line.grad_norm = 0.8125;
  line.learning_rate = 3e-3;
  line.tokens = 1024;
  line.step_ns = 128'000'000;  // 1024 tokens in 0.128 s: 8000 tokens/s
  line.bubble_share = {0.10, 0.12, 0.23, 0.2};
  line.span_ns = 1000;
  line.exposed_comm_ns = {20, 50, 0, 10};
  line.overlap_efficiency = 0.84;
  line.peak_activation_bytes = {3'100'000, 2'000'000, 1'000'000, 950'000};
  line.pairs_in_sequence = 40;
  return line;
}

/// What a Progress writes to its stream.
std::string written(bool terminal, const ProgressShape& shape, int log_every,
                    const std::function<void(Progress&)>& use) {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* stream = open_memstream(&text, &size);
  Progress progress(stream, terminal, shape, log_every);
  use(progress);
  std::fclose(stream);
  std::string result(text, size);
  std::free(text);
  return result;
}

/// What a terminal of unlimited height shows after those signs.
std::vector<std::string> screen(const std::string& text) {
  std::vector<std::string> lines(1);
  std::size_t row = 0;
  std::size_t column = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') {
      if (++row == lines.size()) lines.emplace_back();
      column = 0;
    } else if (text[i] == '\r') {
      column = 0;
    } else if (text.compare(i, 3, "\x1b[K") == 0) {
      lines[row].resize(column);
      i += 2;
    } else if (text.compare(i, 4, "\x1b[1A") == 0) {
      --row;
      i += 3;
    } else if (text.compare(i, 4, "\x1b[?7") == 0) {
      i += 4;
    } else {
      lines[row].resize(std::max(lines[row].size(), column + 1), ' ');
      lines[row][column++] = text[i];
    }
  }
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

TEST(StepText, HoldsTheWorstOfTheRanks) {
  EXPECT_EQ(
      step_text(example(), {300, 4, 8, 1}),
      "step 12/300  loss 2.3457  norm 0.812  8000 tok/s  bubble 23%  exposed 5%  peak 3.1 MB");
}

TEST(StepText, SaysWhatBraidedPairsHide) {
  StepLine line = example();
  line.pairs_braided = 40;
  EXPECT_THAT(step_text(line, {300, 4, 8, 1}),
              AllOf(HasSubstr("bubble 23%  overlap 84%  peak"), Not(HasSubstr("exposed"))));
}

TEST(StepText, FitsAHundredColumns) {
  StepLine line = example();
  line.step = 9'999;
  line.loss = 12.3456;
  line.grad_norm = 12.3456;
  line.tokens = 127'999;  // 999,992 a second
  line.bubble_share = {1, 1, 1, 1};
  line.exposed_comm_ns = {1000, 1000, 1000, 1000};
  line.peak_activation_bytes = {9'999'900'000, 0, 0, 0};
  EXPECT_LE(step_text(line, {9'999, 4, 8, 1}).size(), 100U);
}

TEST(StepText, CountsWholeBackwards) {
  StepLine line = example();
  EXPECT_THAT(step_text(line, {300, 4, 8, 1}), Not(HasSubstr("as B")));
  line.whole_backwards = 3;
  EXPECT_THAT(step_text(line, {300, 4, 8, 1}), HasSubstr("3 I as B"));
}

TEST(StepLegend, SaysOnceWhatHoldsForEveryStep) {
  EXPECT_THAT(step_legend({300, 4, 2, 1}, "runs/job/metrics.jsonl"),
              AllOf(HasSubstr("oversubscribed: 4 ranks on 2 cores"),
                    HasSubstr("the rest: runs/job/metrics.jsonl\n")));
  EXPECT_THAT(step_legend({300, 2, 2, 1}, "metrics"), Not(HasSubstr("oversubscribed")));
}

TEST(BarText, FillsAndForetells) {
  // 3 of 12 steps in 6 s: 2 s a step, 18 s left; a quarter of 30 signs is 7.
  EXPECT_EQ(bar_text(3, 12, 6'000'000'000),
            "[" + std::string(7, '#') + std::string(23, '.') + "] 25%  0:18 left");
  EXPECT_EQ(bar_text(12, 12, 6'000'000'000), "[" + std::string(30, '#') + "] 100%  0:00 left");
  // 1 of 1001 steps in 7.265 s: 7265 s left are 2 h 1 min 5 s.
  EXPECT_THAT(bar_text(1, 1001, 7'265'000'000), HasSubstr(" 2:01:05 left"));
}

TEST(OversubscribedText, ComparesThreadsWithCores) {
  EXPECT_EQ(oversubscribed_text({1, 4, 2, 1}), "oversubscribed: 4 ranks on 2 cores");
  EXPECT_EQ(oversubscribed_text({1, 2, 2, 1}), "");
  EXPECT_EQ(oversubscribed_text({1, 2, 3, 2}),
            "oversubscribed: 2 ranks of 2 threads on 3 cores");  // 4 threads
}

TEST(WrapText, BreaksWhereTwoSpacesAre) {
  EXPECT_THAT(wrap_text("aa b  cc  dd", 9), ElementsAre("aa b  cc", "dd"));
  EXPECT_THAT(wrap_text("aa b  cc  dd", 8), ElementsAre("aa b  cc", "dd"));
  EXPECT_THAT(wrap_text("aa b  cc  dd", 7), ElementsAre("aa b", "cc  dd"));
  EXPECT_THAT(wrap_text("abcdef  gh", 4), ElementsAre("abcd", "gh"));
  EXPECT_THAT(wrap_text("", 4), ElementsAre());
}

TEST(Progress, WritesALineAnIntervalToAPipe) {
  const std::string text = written(false, {25, 1, 1, 1}, 10, [](Progress& progress) {
    StepLine line = example();
    for (line.step = 1; line.step <= 25; ++line.step) progress.step(line, 1);
    progress.note("done");
    progress.end();
  });
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(screen(text), ElementsAre(HasSubstr("step 10/25"), HasSubstr("step 20/25"),
                                        HasSubstr("step 25/25"), "done"));
}

TEST(Progress, RedrawsInPlaceOnATerminal) {
  const ProgressShape shape{300, 4, 2, 1};
  const std::string text = written(true, shape, 10, [](Progress& progress) {
    StepLine line = example();
    for (line.step = 1; line.step <= 3; ++line.step) progress.step(line, 1);
    progress.note("validated");
    for (line.step = 4; line.step <= 5; ++line.step) progress.step(line, 1);
    progress.end();
  });
  // A memory stream has no width: 80 columns. The note stays above the last block.
  EXPECT_THAT(screen(text), ElementsAre("validated", HasSubstr("step 5/300"),
                                        HasSubstr("peak 3.1 MB"), HasSubstr("] 1%")));
  for (const std::string& line : screen(text)) EXPECT_LE(line.size(), 80U);
}

}  // namespace
}  // namespace plait
