#include "plait/launch/secret.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace plait {
namespace {

constexpr const char* kWords = "correct horse battery staple";

std::string error_of(const Environment& environment) {
  const Expected<std::string> secret = job_secret(environment);
  if (secret) return "no error";
  EXPECT_EQ(secret.error().text().find("horse"), std::string::npos);
  return secret.error().text();
}

class SecretFile : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() / ("plait_secret_" + std::to_string(getpid()));
    std::ofstream(path_) << kWords << "\n";
    chmod(path_.c_str(), 0600);
  }
  void TearDown() override { std::filesystem::remove(path_); }
  std::string path_;
};

TEST_F(SecretFile, ComesFromTheEnvironmentOrAFile) {
  EXPECT_EQ(job_secret({}), "");
  EXPECT_EQ(job_secret({{kSecretVariable, kWords}}), kWords);
  EXPECT_EQ(job_secret({{kSecretFileVariable, path_}}), kWords);
}

TEST_F(SecretFile, WhatIsWrongWithItIsSaidWithoutIt) {
  EXPECT_EQ(error_of({{kSecretVariable, "horse"}}),
            "PLAIT_SECRET: has 5 bytes, needed 16 or more that nobody guesses");
  EXPECT_EQ(error_of({{kSecretVariable, kWords}, {kSecretFileVariable, path_}}),
            "PLAIT_SECRET_FILE: is set beside PLAIT_SECRET, needed one");
  EXPECT_NE(error_of({{kSecretFileVariable, path_ + "x"}}), "no error");
  chmod(path_.c_str(), 0640);
  EXPECT_EQ(error_of({{kSecretFileVariable, path_}}),
            "PLAIT_SECRET_FILE: others than its owner may read " + path_ + ", needed chmod 600");
}

}  // namespace
}  // namespace plait
