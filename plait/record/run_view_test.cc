#include "plait/record/run_view.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "plait/record/folder_lock.h"
#include "plait/record/run_folder.h"

namespace plait {
namespace {

namespace fs = std::filesystem;

constexpr const char* kJob = "[data]\ntrain = \"text.txt\"\n[run]\nsteps = 9\nthreads = 2\n";

std::string step_json(int step, double loss) {
  StepLine line;
  line.step = step;
  line.loss = loss;
  line.step_ns = 1000;
  return print_json(line) + "\n";
}

class RunFollowerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("plait_run_view_" + std::to_string(getpid()));
    fs::create_directories(root_ / "run");
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(root_ / "run" / name, std::ios::binary) << text;
  }
  void append(const std::string& name, const std::string& text) {
    std::ofstream(root_ / "run" / name, std::ios::binary | std::ios::app) << text;
  }
  void begin_run() {
    write("job.toml", kJob);
    write("metrics.jsonl", metrics_header() + "\n");
  }
  std::string folder() const { return (root_ / "run").string(); }
  std::string error_of(RunFollower follower) {
    const Expected<void> read = follower.refresh();
    if (read) return "no error";
    EXPECT_EQ(read.error().code, ErrorCode::kInvalidInput);
    std::string text = read.error().text();
    const std::size_t at = text.find(root_.string() + "/");
    return at == std::string::npos ? text : text.erase(at, root_.string().size() + 1);
  }

  fs::path root_;
};

TEST_F(RunFollowerTest, TellsAKilledRunFromASlowOne) {
  begin_run();
  RunFollower run(folder());
  {
    const Expected<FolderLock> lock = FolderLock::take(folder());
    ASSERT_TRUE(lock);
    ASSERT_TRUE(run.refresh());
    EXPECT_FALSE(run.view().killed);
  }
  ASSERT_TRUE(run.refresh());
  EXPECT_FALSE(run.view().killed);  // it has let go of its lock, as one that fails does
  write(".lock", "process 1 on nowhere");
  ASSERT_TRUE(run.refresh());
  EXPECT_TRUE(run.view().killed);
  fs::create_directories(root_ / "run/model");
  write("model/config.json", "{}");
  ASSERT_TRUE(run.refresh());
  EXPECT_FALSE(run.view().killed);
}

TEST_F(RunFollowerTest, FollowsAsFilesGrow) {
  RunFollower run(folder() + "/");
  write("job.toml", kJob);
  ASSERT_TRUE(run.refresh());  // metrics.jsonl comes next
  EXPECT_FALSE(run.view().begun);
  begin_run();
  ASSERT_TRUE(run.refresh());
  EXPECT_TRUE(run.view().begun);
  EXPECT_EQ(run.view().folder, folder());
  EXPECT_EQ(run.view().steps, 9);
  EXPECT_EQ(run.view().threads, 2);
  EXPECT_FALSE(run.view().last);

  const std::string second = step_json(2, 2.5);
  append("metrics.jsonl", step_json(1, 3.5) + second.substr(0, 20));
  ASSERT_TRUE(run.refresh());
  ASSERT_TRUE(run.view().last);
  EXPECT_EQ(run.view().last->step, 1);
  append("metrics.jsonl", second.substr(20));
  append("metrics.jsonl", print_json(ValidationLine{2, 2.25, 100, true}) + "\n");
  ASSERT_TRUE(run.refresh());
  EXPECT_EQ(run.view().last->step, 2);
  ASSERT_EQ(run.view().losses.size(), 2U);
  EXPECT_EQ(run.view().losses[1].loss, 2.5);
  ASSERT_EQ(run.view().validations.size(), 1U);
  EXPECT_EQ(run.view().validations[0].loss, 2.25);
  EXPECT_EQ(run.view().elapsed_ns, 2000);

  EXPECT_FALSE(run.view().timeline);
  TimelineEvent event;
  event.action = {0, 0, ActionType::kForward, 0};
  event.end = 10;
  write("last_step.json", print_chrome_trace({1, {event}, 2}));
  EXPECT_FALSE(run.view().ended);
  fs::create_directories(root_ / "run/model");
  write("model/config.json", "{}");
  ASSERT_TRUE(run.refresh());
  ASSERT_TRUE(run.view().timeline);
  EXPECT_EQ(run.view().timeline->step, 2);
  EXPECT_TRUE(run.view().ended);
}

TEST_F(RunFollowerTest, AnotherRunInTheFolderIsReadFromItsBeginning) {
  begin_run();
  append("metrics.jsonl", step_json(1, 3.5) + step_json(2, 3));
  RunFollower run(folder());
  RunFollower next = RunFollower::of_next_run(folder());
  ASSERT_TRUE(run.refresh());
  ASSERT_TRUE(next.refresh());
  EXPECT_EQ(run.view().losses.size(), 2U);
  EXPECT_FALSE(next.view().begun);

  Expected<RunFolder> made = RunFolder::create(folder(), ExistingFolder::kOverwrite, kJob);
  ASSERT_TRUE(made) << made.error().text();
  ASSERT_TRUE(made->metrics().append(metrics_header()));
  ASSERT_TRUE(run.refresh());
  ASSERT_TRUE(next.refresh());
  EXPECT_EQ(run.view().losses.size(), 0U);
  EXPECT_FALSE(run.view().last);
  EXPECT_TRUE(next.view().begun);
}

TEST_F(RunFollowerTest, TheNextRunMayMakeItsFolder) {
  fs::remove(root_ / "run");
  EXPECT_EQ(error_of(RunFollower(folder())), "run: is not a folder, needed the folder of a run");
  RunFollower next = RunFollower::of_next_run(folder());
  ASSERT_TRUE(next.refresh());
  EXPECT_FALSE(next.view().begun);
  fs::create_directories(root_ / "run");
  begin_run();
  ASSERT_TRUE(next.refresh());
  EXPECT_TRUE(next.view().begun);
}

TEST_F(RunFollowerTest, WhatIsNoRunsIsAnError) {
  EXPECT_EQ(error_of(RunFollower(folder())), "run: is not the folder of a run (no job.toml)");
  write("file", "");
  EXPECT_EQ(error_of(RunFollower(folder() + "/file")),
            "run/file: is not a folder, needed the folder of a run");
  write("job.toml", kJob);
  fs::last_write_time(root_ / "run/job.toml",
                      fs::file_time_type::clock::now() - std::chrono::minutes(1));
  EXPECT_EQ(error_of(RunFollower(folder())), "run: is not the folder of a run (no metrics.jsonl)");
  write("metrics.jsonl", "text\n");
  EXPECT_EQ(error_of(RunFollower(folder())),
            "run/metrics.jsonl:1: is not a run's metrics: needed "
            R"({"format":"plait metrics","version":1} first)");
  begin_run();
  EXPECT_EQ(error_of(RunFollower(folder())), "no error");
  write("last_step.json", "{\"traceEvents\": [{\"na");
  EXPECT_NE(error_of(RunFollower(folder())).find("run/last_step.json:1:22: not JSON"),
            std::string::npos);
  fs::remove(root_ / "run/last_step.json");
  write("job.toml", "[run]\nstep = 9\n");
  EXPECT_NE(error_of(RunFollower(folder())).find("run/job.toml:2"), std::string::npos);
  fs::remove(root_ / "run/metrics.jsonl");
  write("job.toml", kJob);
  fs::create_directories(root_ / "run/metrics.jsonl");
  EXPECT_EQ(error_of(RunFollower(folder())),
            "run/metrics.jsonl: the metrics file cannot be read: Is a directory");
}

}  // namespace
}  // namespace plait
