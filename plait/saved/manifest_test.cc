#include "plait/saved/manifest.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

namespace plait {
namespace {

std::string manifest_with(const std::string& name, const std::string& ranks = "1") {
  const std::string seal = R"({"bytes":1,"xxh3_128":"00000000000000000000000000000000"})";
  return fmt::format(
      R"({{"format":"plait checkpoint","version":1,"step":3,"ranks":{},"files":{{"rank-0.safetensors":{},"{}":{}}}}})",
      ranks, seal, name, seal);
}

std::string error_of(const std::string& text) {
  const Expected<Manifest> read = parse_manifest("manifest.json", text);
  return read ? "no error" : read.error().text();
}

TEST(Manifest, ReadsWhatItPrints) {
  const Expected<Manifest> read = parse_manifest("manifest.json", manifest_with("job.toml"));
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read->files.size(), 2U);
  EXPECT_EQ(*parse_manifest("m", print_manifest(*read)), *read);
}

TEST(Manifest, NamesNoFileOutsideOfItsFolder) {
  for (const char* name :
       {"../secret", "/etc/passwd", "..", ".", ".hidden", "a/b", "", "a\\u0000b"})
    EXPECT_NE(error_of(manifest_with(name)).find("is no file of a checkpoint"), std::string::npos)
        << name << ": " << error_of(manifest_with(name));
}

TEST(Manifest, OfManyRanksEachIsNamed) {
  EXPECT_NE(error_of(manifest_with("job.toml", "2147483647"))
                .find("names no rank-1.safetensors, needed one of each of 2147483647 ranks"),
            std::string::npos);
}

TEST(Manifest, ATornOneIsSaid) {
  const std::string whole = print_manifest(*parse_manifest("m", manifest_with("job.toml")));
  for (std::size_t bytes = 0; bytes + 3 < whole.size(); ++bytes)
    EXPECT_FALSE(parse_manifest("m", whole.substr(0, bytes))) << bytes;
}

}  // namespace
}  // namespace plait
