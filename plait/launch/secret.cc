#include "plait/launch/secret.h"

#include <fmt/core.h>
#include <sys/stat.h>

#include "plait/base/read_file.h"

namespace plait {
namespace {

constexpr std::size_t kShortest = 16;

std::string value_of(const Environment& environment, const char* name) {
  const auto found = environment.find(name);
  return found == environment.end() ? "" : found->second;
}

Expected<std::string> read_secret(const std::string& path) {
  struct stat file {};
  if (stat(path.c_str(), &file) == 0 && (file.st_mode & (S_IRGRP | S_IROTH)) != 0) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("others than its owner may read {}, needed chmod 600", path),
                kSecretFileVariable);
  }
  PLAIT_TRY(std::string secret, read_file(path, "secret"));
  while (!secret.empty() && (secret.back() == '\n' || secret.back() == '\r')) secret.pop_back();
  return secret;
}

}  // namespace

Expected<std::string> job_secret(const Environment& environment) {
  const std::string file = value_of(environment, kSecretFileVariable);
  std::string secret = value_of(environment, kSecretVariable);
  if (secret.empty() && file.empty()) return std::string();
  if (!secret.empty() && !file.empty()) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("is set beside {}, needed one", kSecretVariable), kSecretFileVariable);
  }
  if (!file.empty()) {
    PLAIT_TRY(secret, read_secret(file));
  }
  if (secret.size() >= kShortest) return secret;
  return fail(
      ErrorCode::kInvalidInput,
      fmt::format("has {} bytes, needed {} or more that nobody guesses", secret.size(), kShortest),
      file.empty() ? kSecretVariable : kSecretFileVariable);
}

}  // namespace plait
