#include "plait/base/write_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "plait/base/read_file.h"

namespace plait {
namespace {

namespace fs = std::filesystem;

class WriteFile : public testing::Test {
 protected:
  WriteFile()
      : folder_(fs::temp_directory_path() / ("plait-write-file-" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~WriteFile() override { fs::remove_all(folder_); }
  std::string path() const { return (folder_ / "file").string(); }

  fs::path folder_;
};

TEST_F(WriteFile, AFailedWriteLeavesTheOldFile) {
  ASSERT_TRUE(write_file_atomically(path(), "old"));
  const auto result = write_file_atomically((folder_ / "none" / "x").string(), "new");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kIo);
  EXPECT_EQ(read_file(path(), "old").value(), "old");
  ASSERT_TRUE(write_file_atomically(path(), "new"));
  EXPECT_EQ(read_file(path(), "new").value(), "new");
}

TEST_F(WriteFile, WhatIsNotCommittedLeavesNothing) {
  {
    AtomicFile file(path());
    ASSERT_TRUE(file.open());
    ASSERT_TRUE(file.write("half", 4));
  }
  EXPECT_TRUE(fs::is_empty(folder_));
}

}  // namespace
}  // namespace plait
