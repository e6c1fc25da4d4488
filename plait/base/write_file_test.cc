#include "plait/base/write_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>

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

TEST_F(WriteFile, ALinkStaysAndTheFileBehindItIsReplaced) {
  fs::create_directory(folder_ / "elsewhere");
  const fs::path real = folder_ / "elsewhere" / "real";
  ASSERT_TRUE(write_file_atomically(real.string(), "old"));
  fs::create_symlink("elsewhere/real", path());
  ASSERT_TRUE(write_file_atomically(path(), "new"));
  EXPECT_TRUE(fs::is_symlink(path()));
  EXPECT_EQ(read_file(real.string(), "real").value(), "new");
  // Also where nothing is there yet.
  fs::remove(real);
  ASSERT_TRUE(write_file_atomically(path(), "first"));
  EXPECT_TRUE(fs::is_symlink(path()));
  EXPECT_EQ(read_file(real.string(), "real").value(), "first");
}

TEST_F(WriteFile, APipeIsWrittenThrough) {
  ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
  std::string got;
  std::thread reader([&] { got = read_file(path(), "pipe").value(); });
  const auto written = write_file_atomically(path(), "text");
  reader.join();
  ASSERT_TRUE(written) << written.error().text();
  EXPECT_EQ(got, "text");
  EXPECT_TRUE(fs::is_fifo(path()));
}

TEST_F(WriteFile, AnOpenDescriptorIsWrittenWhereItStands) {
  const int file = ::open(path().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(file, 0);
  ASSERT_EQ(::write(file, "one ", 4), 4);
  ASSERT_TRUE(write_file_atomically("/dev/fd/" + std::to_string(file), "two "));
  ASSERT_EQ(::write(file, "three", 5), 5);
  ::close(file);
  EXPECT_EQ(read_file(path(), "file").value(), "one two three");
}

TEST_F(WriteFile, AFullDeviceIsAnError) {
  const auto written = write_file_atomically("/dev/full", "text");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().text(), "/dev/full: cannot write: No space left on device");
}

TEST_F(WriteFile, PermissionsStay) {
  ASSERT_TRUE(write_file_atomically(path(), "old"));
  fs::permissions(path(), fs::perms::owner_read | fs::perms::owner_write);
  ASSERT_TRUE(write_file_atomically(path(), "new"));
  EXPECT_EQ(fs::status(path()).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

}  // namespace
}  // namespace plait
