#include "plait/record/recorder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "plait/record/metrics_file.h"
#include "tests/support/files.h"

namespace plait {
namespace {

namespace fs = std::filesystem;
using testing::read_text;

class RecorderTest : public ::testing::Test {
 protected:
  void TearDown() override { fs::remove_all(path_); }

  Recorder::Options options() const {
    Recorder::Options options;
    options.folder = path_;
    options.steps = 3;
    options.timeline_step = 2;
    return options;
  }
  static StepOutcome step(int number) {
    StepOutcome outcome;
    outcome.line.step = number;
    outcome.line.loss = number;
    outcome.line.peak_activation_bytes = outcome.line.peak_state_bytes = {7};
    outcome.line.cpu_ns = outcome.line.clock_error_ns = {1};
    outcome.timeline.step = number;
    outcome.timeline.ranks = 1;
    outcome.timeline.events.resize(1);
    return outcome;
  }
  bool has(const char* name) const { return fs::exists(fs::path(path_) / name); }

  std::string path_ =
      (fs::temp_directory_path() / ("plait_recorder_" + std::to_string(getpid()))).string();
};

TEST_F(RecorderTest, ARunThatTakesNoStepLeavesNothing) {
  {
    const Expected<Recorder> recorder = Recorder::begin(options(), "job");
    ASSERT_TRUE(recorder) << recorder.error().text();
    EXPECT_EQ(read_text(recorder->file("job.toml")), "job");
  }
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(RecorderTest, WhatOnlyWatchesMayFailWithOneWarning) {
  std::vector<std::string> warnings;
  Recorder::Options with_warnings = options();
  with_warnings.on_warning = [&](const Error& error) { warnings.push_back(error.message); };
  Expected<Recorder> recorder = Recorder::begin(with_warnings, "job");
  ASSERT_TRUE(recorder) << recorder.error().text();
  fs::create_directory(fs::path(path_) / "last_step.json");  // no file can take its place
  for (const int number : {1, 2, 3}) recorder->step(step(number));
  EXPECT_EQ(warnings, std::vector<std::string>{"cannot write: Is a directory"});
  EXPECT_TRUE(has("timeline.json"));
  EXPECT_TRUE(recorder->end());
}

TEST_F(RecorderTest, AResultThatCannotBeWrittenIsTheEndsError) {
  std::vector<std::string> warnings;
  Recorder::Options with_warnings = options();
  with_warnings.on_warning = [&](const Error& error) { warnings.push_back(error.text()); };
  Expected<Recorder> recorder = Recorder::begin(with_warnings, "job");
  ASSERT_TRUE(recorder) << recorder.error().text();
  fs::create_directory(fs::path(path_) / "timeline.json");
  for (const int number : {1, 2, 3}) recorder->step(step(number));
  recorder->write_result("costs.toml", "f_ns = 1");
  EXPECT_EQ(read_text(recorder->file("costs.toml")), "f_ns = 1");
  const std::string needed = path_ + "/timeline.json: cannot write: Is a directory";
  EXPECT_EQ(warnings, std::vector<std::string>{needed});
  const Expected<void> ended = recorder->end();
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().text(), needed);
  EXPECT_NE(read_text(path_ + "/metrics.jsonl").find("\"step\":3"), std::string::npos);
}

TEST_F(RecorderTest, ADiskWithoutRoomForTheModelIsAnErrorBeforeTheFirstStep) {
  Recorder::Options much = options();
  much.room = Bytes{1} << 62;
  const Expected<Recorder> recorder = Recorder::begin(much, "job");
  ASSERT_FALSE(recorder);
  EXPECT_EQ(recorder.error().text().find(path_ + ": has no room for 4611686018427387904 bytes"), 0U)
      << recorder.error().text();
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(RecorderTest, WritesLinesThatAreReadBackAndTheTimelinesAskedFor) {
  {
    Expected<Recorder> recorder = Recorder::begin(options(), "job");
    ASSERT_TRUE(recorder) << recorder.error().text();
    recorder->step(step(1));
    EXPECT_TRUE(has("last_step.json"));
    EXPECT_FALSE(has("timeline.json"));
    recorder->step(step(2));
    EXPECT_EQ(read_text(recorder->file("timeline.json")), print_chrome_trace(step(2).timeline));
    ValidationLine validation;
    validation.step = 2;
    recorder->validation(validation);
    recorder->step(step(3));
    // However short the pause was: the last step's timeline is what stays.
    EXPECT_EQ(read_text(recorder->file("last_step.json")), print_chrome_trace(step(3).timeline));
  }
  MetricsReader reader("metrics.jsonl");
  const auto lines = reader.read(read_text(path_ + "/metrics.jsonl"));
  ASSERT_TRUE(lines) << lines.error().text();
  ASSERT_EQ(lines->size(), 4U);
  EXPECT_EQ(std::get<StepLine>(lines->at(1)).loss, 2);
  EXPECT_EQ(std::get<ValidationLine>(lines->at(2)).step, 2);
}

TEST_F(RecorderTest, AStoppedRunsLastStepIsWritten) {
  Expected<Recorder> recorder = Recorder::begin(options(), "job");
  ASSERT_TRUE(recorder) << recorder.error().text();
  recorder->step(step(1));
  StepOutcome stopped = step(2);
  stopped.stop_signal = 15;
  recorder->step(stopped);
  EXPECT_EQ(read_text(recorder->file("last_step.json")), print_chrome_trace(stopped.timeline));
}

}  // namespace
}  // namespace plait
