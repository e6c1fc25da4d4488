#include "plait/saved/safetensors_header.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>

namespace plait {
namespace {

/// A file that says so and has so many bytes behind.
std::string error_of_file(std::uint64_t length, const std::string& rest) {
  const std::string path =
      std::filesystem::temp_directory_path() / ("plait_header_" + std::to_string(getpid()));
  std::ofstream stream(path, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(&length), sizeof(length));
  stream << rest;
  stream.close();
  const Expected<SafetensorsHeader> header = read_safetensors_header(path);
  std::filesystem::remove(path);
  return header ? "no error" : header.error().message;
}

TEST(SafetensorsHeader, ALengthIsHeldAgainstTheFileBeforeRoomIsTaken) {
  EXPECT_EQ(error_of_file(std::uint64_t{1} << 62, "{}"),
            "says its header has 4611686018427387904 bytes, but the file has only 10");
  EXPECT_EQ(error_of_file(3, "{}"), "says its header has 3 bytes, but the file has only 10");
  EXPECT_EQ(error_of_file(2, "{}"), "no error");
}

TEST(SafetensorsHeader, SizesThatOverflowAreNoSizes) {
  const std::string huge =
      R"({"w":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,0]}})";
  EXPECT_FALSE(parse_safetensors_header("f", huge, 0));
  const std::string none =
      R"({"w":{"dtype":"F32","shape":[9223372036854775807,0],"data_offsets":[0,0]}})";
  (void)parse_safetensors_header("f", none, 0);  // either way, without undefined behaviour
  EXPECT_EQ(tensor_bytes(4, {3, 5}), 60);
  EXPECT_EQ(tensor_bytes(4, {std::int64_t{1} << 62}), std::nullopt);
}

}  // namespace
}  // namespace plait
