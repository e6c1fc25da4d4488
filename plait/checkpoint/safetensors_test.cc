#include "plait/checkpoint/safetensors.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace plait {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class Safetensors : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("plait_safetensors_" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const char* name = "a.safetensors") const { return (folder_ / name).string(); }

  std::string write(const std::string& header, const std::string& data) const {
    std::ofstream out(path(), std::ios::binary);
    const std::uint64_t length = header.size();
    out.write(reinterpret_cast<const char*>(&length), sizeof length);
    out << header << data;
    return path();
  }

  std::string error_of(const std::string& header, const std::string& data) const {
    const auto file = SafetensorsFile::open(write(header, data));
    EXPECT_FALSE(file);
    if (file) return "";
    EXPECT_EQ(file.error().code, ErrorCode::kInvalidInput);
    EXPECT_EQ(file.error().where, path());
    return file.error().message;
  }

  fs::path folder_;
};

std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST_F(Safetensors, WhatIsWrittenIsRead) {
  const at::Tensor matrix = at::arange(6, at::kFloat).view({2, 3});
  const at::Tensor turned = matrix.t();  // not contiguous
  const at::Tensor empty = at::zeros({0, 4}, at::kFloat);
  ASSERT_TRUE(write_safetensors(path(), {{"b.weight", matrix}, {"a.weight", turned}, {"c", empty}},
                                {{"format", "pt"}}));
  const auto file = SafetensorsFile::open(path());
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->entries().size(), 3u);
  EXPECT_EQ(file->metadata().at("format"), "pt");
  EXPECT_TRUE(at::equal(file->read("b.weight").value(), matrix));
  EXPECT_TRUE(at::equal(file->read("a.weight").value(), turned));
  EXPECT_EQ(file->read("c").value().sizes(), empty.sizes());
  EXPECT_FALSE(file->read("d"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "a temporary file is left";
}

TEST_F(Safetensors, EqualTensorsGiveEqualBytes) {
  const at::Tensor x = at::arange(3, at::kFloat), y = at::arange(5, at::kFloat);
  ASSERT_TRUE(write_safetensors(path("1"), {{"x", x}, {"y", y}}, {}));
  ASSERT_TRUE(write_safetensors(path("2"), {{"y", y}, {"x", x}}, {}));
  EXPECT_EQ(read_bytes(path("1")), read_bytes(path("2")));
}

TEST_F(Safetensors, ReadsHalfPrecision) {
  // 1.5 is 0x3FC0 in bfloat16 and 0x3E00 in float16, little-endian.
  write(R"({"b":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},)"
        R"("h":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}})",
        std::string("\xC0\x3F\x00\x3E", 4));
  const auto file = SafetensorsFile::open(path());
  ASSERT_TRUE(file) << file.error().text();
  for (const char* name : {"b", "h"}) {
    const at::Tensor tensor = file->read(name).value();
    EXPECT_EQ(tensor.scalar_type(), at::kFloat);
    EXPECT_EQ(tensor.item<float>(), 1.5f);
  }
}

TEST_F(Safetensors, OtherDtypesAreKnownButNotRead) {
  write(R"({"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", std::string(8, '\0'));
  const auto file = SafetensorsFile::open(path());
  ASSERT_TRUE(file) << file.error().text();
  const auto tensor = file->read("i");
  ASSERT_FALSE(tensor);
  EXPECT_EQ(tensor.error().code, ErrorCode::kNotBuilt);
}

TEST_F(Safetensors, BadHeadersAreErrors) {
  const std::string four(4, '\0'), eight(8, '\0');
  EXPECT_THAT(error_of("[1]", ""), HasSubstr("not a JSON object"));
  EXPECT_THAT(error_of("{", ""), HasSubstr("not a JSON object"));
  EXPECT_THAT(error_of(R"({"x":{"dtype":"F32","shape":[1]}})", four), HasSubstr("data_offsets"));
  EXPECT_THAT(error_of(R"({"x":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", four),
              HasSubstr("dtype F31"));
  EXPECT_THAT(error_of(R"({"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", four),
              HasSubstr("shape"));
  EXPECT_THAT(error_of(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", four),
              HasSubstr("has 4 bytes, needs 8 for F32 [2]"));
  EXPECT_THAT(
      error_of(R"({"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})",
               four),
      HasSubstr("more than there are"));
  EXPECT_THAT(error_of(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                       R"("x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                       eight),
              HasSubstr("tensor x is there twice"));
}

TEST_F(Safetensors, BadLayoutsAreErrors) {
  const std::string four(4, '\0'), eight(8, '\0'), twelve(12, '\0');
  const std::string x = R"("x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_THAT(
      error_of("{" + x + R"(,"y":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})", eight),
      HasSubstr("overlap"));
  EXPECT_THAT(
      error_of("{" + x + R"(,"y":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})", twelve),
      HasSubstr("gap"));
  EXPECT_THAT(error_of("{" + x + "}", eight), HasSubstr("8 bytes of data, its header needs 4"));
  EXPECT_THAT(error_of("{" + x + "}", "ab"), HasSubstr("cut off"));
}

TEST_F(Safetensors, NoPrefixOfAFileIsTaken) {
  ASSERT_TRUE(write_safetensors(path(), {{"x", at::arange(4, at::kFloat)}}, {}));
  const std::string whole = read_bytes(path());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    std::ofstream(path("cut"), std::ios::binary) << whole.substr(0, length);
    EXPECT_FALSE(SafetensorsFile::open(path("cut"))) << length;
  }
}

TEST_F(Safetensors, DamagedHeadersNeverCrash) {
  ASSERT_TRUE(write_safetensors(path(), {{"x", at::arange(4, at::kFloat)}}, {{"a", "b"}}));
  const std::string whole = read_bytes(path());
  std::mt19937 generator(1);
  for (int i = 0; i < 300; ++i) {
    std::string damaged = whole;
    for (int n = 0; n < 3; ++n) {
      damaged[generator() % (whole.size() - 16)] = static_cast<char>(generator() % 256);
    }
    std::ofstream(path("damaged"), std::ios::binary) << damaged;
    const auto file = SafetensorsFile::open(path("damaged"));
    if (!file) continue;
    for (const auto& [name, entry] : file->entries()) static_cast<void>(file->read(name));
  }
}

TEST_F(Safetensors, AMissingFileIsAnError) {
  const auto file = SafetensorsFile::open(path("none"));
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::kIo);
  EXPECT_THAT(file.error().message, HasSubstr("No such file"));
}

}  // namespace
}  // namespace plait
