#include "plait/base/read_file.h"

#include <gtest/gtest.h>

namespace plait {
namespace {

TEST(ReadFile, ReadsAllOfAFile) {
  const auto text = read_file("tests/golden/deepseek-v3-pair.csv", "cost");
  ASSERT_TRUE(text) << text.error().text();
  EXPECT_EQ(text->front(), '#');
  EXPECT_EQ(text->back(), '\n');
}

TEST(ReadFile, WhatIsAbsentOrAFolderIsAnErrorThatNamesIt) {
  for (const char* path : {"absent.toml", "tests", ""}) {
    const auto text = read_file(path, "job");
    ASSERT_FALSE(text) << path;
    EXPECT_EQ(text.error().code, ErrorCode::kInvalidInput);
    EXPECT_EQ(text.error().message, "the job file cannot be read");
    EXPECT_EQ(text.error().where, path);
  }
}

}  // namespace
}  // namespace plait
