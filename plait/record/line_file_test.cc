#include "plait/record/line_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "tests/support/files.h"

namespace plait {
namespace {

namespace fs = std::filesystem;
using testing::read_text;

/// No file of this process grows beyond `bytes`, as on a disk that is full.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const struct rlimit limit {
      bytes, before_.rlim_max
    };
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SmallDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

 private:
  struct rlimit before_ {};
  void (*handler_)(int) = std::signal(SIGXFSZ, SIG_IGN);
};

class LineFileTest : public ::testing::Test {
 protected:
  void TearDown() override { fs::remove(path_); }
  std::string path_ =
      (fs::temp_directory_path() / ("plait_lines_" + std::to_string(getpid()))).string();
};

TEST_F(LineFileTest, LinesWaitForRoomAndNoHalfLineIsSeen) {
  LineFile file;
  ASSERT_TRUE(file.open(path_));
  EXPECT_TRUE(file.append("one"));
  {
    const SmallDisk disk(10);
    EXPECT_TRUE(file.append("two"));
    const Expected<void> third = file.append("three");  // two of its bytes would fit
    ASSERT_FALSE(third);
    EXPECT_EQ(third.error().text(), path_ + ": cannot be written: File too large");
    EXPECT_FALSE(file.append("four"));
    EXPECT_EQ(read_text(path_), "one\ntwo\n");
    const Expected<void> ended = file.write_waiting();
    ASSERT_FALSE(ended);
    EXPECT_EQ(ended.error().text(),
              path_ + ": 2 of its lines are missing: it cannot be written: File too large");
  }
  EXPECT_TRUE(file.append("five"));
  EXPECT_EQ(read_text(path_), "one\ntwo\nthree\nfour\nfive\n");
  EXPECT_TRUE(file.write_waiting());
}

TEST_F(LineFileTest, WhatIsMovedGoesOnWhereItWas) {
  LineFile first;
  ASSERT_TRUE(first.open(path_));
  EXPECT_TRUE(first.append("one"));
  LineFile second(std::move(first));
  EXPECT_TRUE(second.append("two"));
  EXPECT_EQ(read_text(path_), "one\ntwo\n");
}

TEST_F(LineFileTest, AFileThatWasRemovedIsAnErrorAtTheEnd) {
  LineFile file;
  ASSERT_TRUE(file.open(path_));
  EXPECT_TRUE(file.append("one"));
  EXPECT_TRUE(file.write_waiting());
  fs::remove(path_);
  EXPECT_TRUE(file.append("two"));
  const Expected<void> ended = file.write_waiting();
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().text(), path_ + ": was removed while it was written");
}

TEST_F(LineFileTest, AFolderThatIsNotThereIsAnError) {
  LineFile file;
  const Expected<void> opened = file.open(path_ + "/none/lines");
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().text(),
            path_ + "/none/lines: cannot be written: No such file or directory");
}

}  // namespace
}  // namespace plait
