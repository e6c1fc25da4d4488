#include "plait/base/read_file.h"

#include <fmt/core.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace plait {

Expected<std::string> read_file(const std::string& path, std::string_view what) {
  std::error_code ignored;
  std::ifstream file(path, std::ios::binary);
  // A folder can be opened; reading it throws.
  if (!file || std::filesystem::is_directory(path, ignored))
    return fail(ErrorCode::kInvalidInput, fmt::format("the {} file cannot be read", what), path);
  return std::string{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace plait
