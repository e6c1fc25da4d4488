#include "plait/base/read_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <utility>

namespace plait {
namespace {

TEST(ReadFile, ReadsAllOfAFile) {
  const auto text = read_file("tests/golden/deepseek-v3-pair.csv", "cost");
  ASSERT_TRUE(text) << text.error().text();
  EXPECT_EQ(text->front(), '#');
  EXPECT_EQ(text->back(), '\n');
}

TEST(ReadFile, WhatIsAbsentOrAFolderIsAnErrorThatNamesIt) {
  for (const auto& [path, why] : {std::pair{"absent.toml", "No such file or directory"},
                                  {"tests", "Is a directory"},
                                  {"", "No such file or directory"}}) {
    const auto text = read_file(path, "job");
    ASSERT_FALSE(text) << path;
    EXPECT_EQ(text.error().code, ErrorCode::kInvalidInput);
    EXPECT_EQ(text.error().message, std::string("the job file cannot be read: ") + why);
    EXPECT_EQ(text.error().where, path);
  }
}

TEST(ReadFile, ReadsAPipeToItsEnd) {
  // More than one read() gives, so that the buffer has to grow.
  const std::string sent(200'000, 'x');
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::thread writer([&] {
    EXPECT_EQ(::write(ends[1], sent.data(), sent.size()), static_cast<ssize_t>(sent.size()));
    ::close(ends[1]);
  });
  const auto text = read_file("/dev/fd/" + std::to_string(ends[0]), "schedule");
  writer.join();
  ::close(ends[0]);
  ASSERT_TRUE(text) << text.error().text();
  EXPECT_EQ(*text, sent);
}

}  // namespace
}  // namespace plait
