#include "plait/record/run_folder.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>

namespace plait {
namespace {

namespace fs = std::filesystem;

class RunFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("plait_run_folder_" + std::to_string(getpid()));
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  /// Every file's text and every folder, by path.
  std::map<std::string, std::string> tree() const {
    std::map<std::string, std::string> found;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root_)) {
      std::ifstream file(entry.path(), std::ios::binary);
      found[fs::relative(entry.path(), root_).string()] =
          entry.is_directory()
              ? "(folder)"
              : std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
    return found;
  }
  std::string path(const std::string& name) const { return (root_ / name).string(); }
  std::string error_of(const std::string& name, ExistingFolder existing) {
    const std::map<std::string, std::string> before = tree();
    const Expected<void> checked = RunFolder::check(path(name), existing);
    const Expected<RunFolder> made = RunFolder::create(path(name), existing, "job");
    EXPECT_EQ(tree(), before);
    if (checked || made) return "no error";
    EXPECT_EQ(checked.error().text(), made.error().text());
    EXPECT_EQ(checked.error().code, ErrorCode::kInvalidInput);
    EXPECT_EQ(checked.error().where, path(name));
    return checked.error().message;
  }
  void write_run(const std::string& name) {
    write(root_ / name / "job.toml", "old job");
    write(root_ / name / "metrics.jsonl", "old metrics");
    write(root_ / name / "model/model.safetensors", "old weights");
    write(root_ / name / "rank-2.log", "old log");
  }

  fs::path root_;
};

TEST_F(RunFolderTest, HoldsTheJobAndTheMetrics) {
  {
    Expected<RunFolder> folder =
        RunFolder::create(path("runs/job"), ExistingFolder::kRefuse, "the job");
    ASSERT_TRUE(folder) << folder.error().text();
    EXPECT_TRUE(folder->metrics().append("{}"));
    folder->keep();
    EXPECT_TRUE(folder->metrics().append("[]"));
  }
  EXPECT_EQ(tree(), (std::map<std::string, std::string>{{"runs", "(folder)"},
                                                        {"runs/job", "(folder)"},
                                                        {"runs/job/job.toml", "the job"},
                                                        {"runs/job/metrics.jsonl", "{}\n[]\n"}}));
}

TEST_F(RunFolderTest, WithoutAStepNothingIsLeft) {
  fs::create_directories(root_ / "a");
  const auto before = tree();
  ASSERT_TRUE(RunFolder::create(path("a/b/c/d"), ExistingFolder::kRefuse, "job"));
  EXPECT_EQ(tree(), before);
  ASSERT_TRUE(RunFolder::create(path("a/b/"), ExistingFolder::kRefuse, "job"));
  EXPECT_EQ(tree(), before);
  ASSERT_TRUE(RunFolder::create(path("a"), ExistingFolder::kOverwrite, "job"));
  EXPECT_EQ(tree(), before);  // it was there, and empty
}

TEST_F(RunFolderTest, WithoutAStepAnotherJobsFolderStays) {
  std::optional<Expected<RunFolder>> failing =
      RunFolder::create(path("runs/failing"), ExistingFolder::kRefuse, "job");
  ASSERT_TRUE(*failing);
  Expected<RunFolder> other = RunFolder::create(path("runs/other"), ExistingFolder::kRefuse, "job");
  ASSERT_TRUE(other);
  failing.reset();
  EXPECT_FALSE(fs::exists(root_ / "runs/failing"));
  EXPECT_TRUE(fs::exists(root_ / "runs/other/job.toml"));
}

TEST_F(RunFolderTest, AnExistingFolderIsAnErrorThatNamesTheWayOut) {
  write_run("runs/job");
  EXPECT_NE(error_of("runs/job", ExistingFolder::kRefuse).find("--overwrite"), std::string::npos);
  fs::create_directories(root_ / "empty");
  EXPECT_NE(error_of("empty", ExistingFolder::kRefuse).find("--overwrite"), std::string::npos);
}

TEST_F(RunFolderTest, OverwriteReplacesTheRunAfterTheFirstStep) {
  write_run("job");
  {
    Expected<RunFolder> folder = RunFolder::create(path("job"), ExistingFolder::kOverwrite, "new");
    ASSERT_TRUE(folder) << folder.error().text();
    folder->keep();
    folder->keep();
  }
  EXPECT_EQ(tree(), (std::map<std::string, std::string>{
                        {"job", "(folder)"}, {"job/job.toml", "new"}, {"job/metrics.jsonl", ""}}));
}

TEST_F(RunFolderTest, OverwriteWithoutAStepPutsTheRunBack) {
  write_run("job");
  const auto before = tree();
  {
    Expected<RunFolder> folder = RunFolder::create(path("job"), ExistingFolder::kOverwrite, "new");
    ASSERT_TRUE(folder) << folder.error().text();
    EXPECT_NE(tree(), before);
  }
  EXPECT_EQ(tree(), before);
}

TEST_F(RunFolderTest, AKilledStartDoesNotLoseTheEarlierRun) {
  write_run("job");
  const auto before = tree();
  fs::create_directories(root_ / "job/.previous");  // as a job leaves it that is killed here
  for (const char* name : {"job.toml", "metrics.jsonl", "model", "rank-2.log"})
    fs::rename(root_ / "job" / name, root_ / "job/.previous" / name);
  write(root_ / "job/job.toml", "never began");
  ASSERT_TRUE(RunFolder::create(path("job"), ExistingFolder::kOverwrite, "new"));
  EXPECT_EQ(tree(), before);
}

TEST_F(RunFolderTest, OverwriteSparesWhatNoRunWrote) {
  write(root_ / "thesis/thesis.tex", "mine");
  EXPECT_EQ(error_of("thesis", ExistingFolder::kOverwrite),
            "is not the folder of a run (no job.toml), --overwrite leaves it alone");
  // A project's own folder may hold a job.toml too.
  write(root_ / "thesis/job.toml", "mine");
  EXPECT_EQ(error_of("thesis", ExistingFolder::kOverwrite),
            "holds thesis.tex, which no run writes, --overwrite leaves it alone");
}

TEST_F(RunFolderTest, WhileARunIsAliveNoOtherHasItsFolder) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  const std::string held = "a run is alive in the folder (process " + std::to_string(getpid()) +
                           " on " + host.data() +
                           "); end it, or choose another folder with run.folder";
  write_run("job");
  std::optional<Expected<RunFolder>> alive =
      RunFolder::create(path("job"), ExistingFolder::kOverwrite, "new");
  ASSERT_TRUE(*alive);
  EXPECT_TRUE((*alive)->is_locked());
  for (const bool begun : {false, true}) {
    if (begun) (*alive)->keep();
    EXPECT_EQ(error_of("job", ExistingFolder::kOverwrite), held);
    EXPECT_EQ(error_of("job", ExistingFolder::kRefuse), held);
  }
  EXPECT_TRUE((*alive)->metrics().append("still mine"));
  alive.reset();
  EXPECT_FALSE(fs::exists(root_ / "job/.lock"));
  EXPECT_TRUE(RunFolder::create(path("job"), ExistingFolder::kOverwrite, "third"));
}

TEST_F(RunFolderTest, TheLockOfARunThatWasKilledIsNone) {
  const pid_t child = fork();
  if (child == 0) {
    Expected<RunFolder> folder = RunFolder::create(path("job"), ExistingFolder::kRefuse, "job");
    folder->keep();
    _exit(folder ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_TRUE(fs::exists(root_ / "job/.lock"));
  Expected<RunFolder> folder = RunFolder::create(path("job"), ExistingFolder::kOverwrite, "new");
  ASSERT_TRUE(folder) << folder.error().text();
  EXPECT_TRUE(folder->is_locked());
}

TEST_F(RunFolderTest, AWorkingDirectoryThatIsGoneIsSaid) {
  const fs::path before = fs::current_path();
  fs::create_directories(root_ / "gone");
  fs::current_path(root_ / "gone");
  fs::remove(root_ / "gone");
  const Expected<RunFolder> folder = RunFolder::create("runs/job", ExistingFolder::kRefuse, "job");
  const Expected<void> absolute = RunFolder::check(path("job"), ExistingFolder::kRefuse);
  fs::current_path(before);
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().text(),
            "runs/job: the run folder cannot be made: the working directory is gone (No such file "
            "or directory)");
  EXPECT_TRUE(absolute);
}

TEST_F(RunFolderTest, ARunThatGoesOnKeepsWhatIsThere) {
  EXPECT_NE(error_of("job", ExistingFolder::kResume).find("is not there"), std::string::npos);
  write_run("job");
  auto expected = tree();
  expected["job/job.toml"] = "new";
  expected["job/metrics.jsonl"] = "{}\n";
  {
    Expected<RunFolder> folder =
        RunFolder::create(path("job"), ExistingFolder::kResume, "new", "{}\n");
    ASSERT_TRUE(folder) << folder.error().text();
  }
  EXPECT_EQ(tree(), expected);  // though it took no step
  {
    Expected<RunFolder> folder =
        RunFolder::create(path("job"), ExistingFolder::kResume, "new", "{}\n");
    EXPECT_TRUE(folder->metrics().append("[]"));
  }
  expected["job/metrics.jsonl"] = "{}\n[]\n";
  EXPECT_EQ(tree(), expected);
}

TEST_F(RunFolderTest, AFileInTheWayIsAnError) {
  write(root_ / "runs", "a file");
  EXPECT_EQ(error_of("runs", ExistingFolder::kOverwrite),
            "the run folder cannot be made: a file is in its place");
  EXPECT_NE(error_of("runs/job", ExistingFolder::kRefuse).find("runs is not a folder"),
            std::string::npos);
}

}  // namespace
}  // namespace plait
