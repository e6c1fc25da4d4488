#include "plait/train/dataset.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

namespace plait {
namespace {

class DatasetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("plait_data_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& bytes) {
    std::string path = (folder_ / name).string();
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  std::string error_of(const std::string& path, TokenFormat format, std::int64_t vocab_size) {
    return without_folder(Dataset::open(path, format, vocab_size));
  }
  template <typename T>
  std::string without_folder(const Expected<T>& result) {
    if (result) return "no error";
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidInput);
    const std::string text = result.error().text();
    const std::string prefix = folder_.string() + "/";
    return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
  }

  std::filesystem::path folder_;
};

TEST_F(DatasetTest, TokensAreLittleEndianOfTheirWidth) {
  const std::string path = write("t", std::string("\x01\x02\xff\x00\x04\x00\x00\x00", 8));
  const Expected<Dataset> bytes = Dataset::open(path, TokenFormat::kBytes, 256);
  ASSERT_TRUE(bytes) << bytes.error().text();
  EXPECT_EQ(bytes->size(), 8U);
  EXPECT_EQ(bytes->at(2), 0xff);
  EXPECT_EQ(bytes->bytes()[1], 2);
  const Expected<Dataset> words = Dataset::open(path, TokenFormat::kUint16, 65536);
  ASSERT_TRUE(words);
  EXPECT_EQ(words->size(), 4U);
  EXPECT_EQ(words->at(0), 0x0201);
  EXPECT_EQ(words->at(1), 0x00ff);
  const Expected<Dataset> doubles = Dataset::open(path, TokenFormat::kUint32, 0x00ff0202);
  ASSERT_TRUE(doubles);
  EXPECT_EQ(doubles->at(0), 0x00ff0201);
  EXPECT_EQ(doubles->at(1), 4);
}

TEST_F(DatasetTest, SlicesCountFromTheirOwnBegin) {
  const Expected<Dataset> data = Dataset::open(write("t", "abcdef"), TokenFormat::kBytes, 256);
  ASSERT_TRUE(data);
  const Dataset inner = data->slice(2, 5).slice(1, 3);
  EXPECT_EQ(inner.size(), 2U);
  EXPECT_EQ(inner.at(0), 'd');
  EXPECT_EQ(inner.bytes()[1], 'e');
}

TEST_F(DatasetTest, ErrorsNameTheFileFoundAndNeeded) {
  EXPECT_EQ(error_of((folder_ / "no").string(), TokenFormat::kBytes, 256),
            "no: the data file cannot be opened: No such file or directory");
  EXPECT_EQ(error_of(write("empty", ""), TokenFormat::kBytes, 256),
            "empty: the data file is empty");
  EXPECT_EQ(error_of(folder_.string() + "/.", TokenFormat::kBytes, 256),
            ".: is not a file, needed a file of tokens");
  EXPECT_EQ(error_of(write("odd", "abc"), TokenFormat::kUint16, 65536),
            "odd: has 3 bytes, needs a multiple of 2 for uint16");
  EXPECT_EQ(error_of(write("high", "ab\x7f"), TokenFormat::kBytes, 127),
            "high: token 127 at position 2 is outside the vocabulary of 127");
  EXPECT_EQ(
      error_of(write("wide", std::string("\0\0\0\0\0\0\1\0", 8)), TokenFormat::kUint32, 65536),
      "wide: token 65536 at position 1 is outside the vocabulary of 65536");
}

[[noreturn]] void end_with_words(const char* words) {
  (void)!write(STDERR_FILENO, words, std::strlen(words));
  _exit(7);
}

TEST_F(DatasetTest, AFileThatIsCutShortIsSaid) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const std::string path = write("cut", std::string(100'000, 'a'));
  EXPECT_EXIT(
      {
        on_lost_data(end_with_words);
        const Expected<Dataset> data = Dataset::open(path, TokenFormat::kBytes, 256);
        std::filesystem::resize_file(path, 10);
        for (std::size_t i = 0; i < data->size(); ++i) (void)data->at(i);
      },
      ::testing::ExitedWithCode(7),
      "cut: the data file has been cut short while it was read: it had 100000 bytes when the run");
  std::filesystem::resize_file(path, 100'000);
}

TEST_F(DatasetTest, AFileThatIsRemovedOrReplacedStaysReadable) {
  const std::string path = write("kept", std::string(100'000, 'a'));
  const Expected<Dataset> data = Dataset::open(path, TokenFormat::kBytes, 256);
  std::filesystem::remove(path);
  write("kept", "b");
  EXPECT_EQ(data->at(99'999), 'a');
}

TEST_F(DatasetTest, TheTailIsHeldOutUnlessThereIsAFile) {
  DataConfig config;
  config.sequence_length = 3;
  config.validation_share = 0.4;
  config.train = write("t", "abcdefghij");
  const Expected<DataSplit> split = open_data(config, 256);
  ASSERT_TRUE(split) << split.error().text();
  EXPECT_EQ(split->training.size(), 6U);  // 10 - 10 * 0.4
  EXPECT_EQ(split->validation.size(), 4U);
  EXPECT_EQ(split->validation.at(0), 'g');
  config.validation = write("v", "wxyz");
  const Expected<DataSplit> files = open_data(config, 256);
  ASSERT_TRUE(files);
  EXPECT_EQ(files->training.size(), 10U);
  EXPECT_EQ(files->validation.at(0), 'w');
}

TEST_F(DatasetTest, EachPartHoldsASequenceAndItsNextToken) {
  DataConfig config;
  config.sequence_length = 4;
  config.validation_share = 0.5;
  config.train = write("t", "abcdefghij");
  EXPECT_TRUE(open_data(config, 256));  // 5 and 5
  config.sequence_length = 5;
  EXPECT_NE(without_folder(open_data(config, 256)).find("has 5 tokens, needs at least 6"),
            std::string::npos);
  config.validation = write("v", "wxyz");
  EXPECT_EQ(without_folder(open_data(config, 256)).substr(0, 2), "v:");
}

TEST(SampleStarts, AreAPureFunctionOfSeedAndStep) {
  const std::vector<std::size_t> starts = sample_starts(1, 7, 16, 1000);
  EXPECT_EQ(starts, sample_starts(1, 7, 16, 1000));
  EXPECT_NE(starts, sample_starts(2, 7, 16, 1000));
  EXPECT_NE(starts, sample_starts(1, 8, 16, 1000));
  // Step and seed do not trade places, as they would if they were only added.
  EXPECT_NE(sample_starts(3, 4, 16, 1000), sample_starts(4, 3, 16, 1000));
}

TEST(SampleStarts, SmallerCountsAreTheFirstOfLargerOnes) {
  const std::vector<std::size_t> all = sample_starts(5, 0, 64, 77777);
  for (int count = 0; count < 64; count += 9) {
    EXPECT_EQ(sample_starts(5, 0, count, 77777),
              std::vector<std::size_t>(all.begin(), all.begin() + count));
  }
}

RC_GTEST_PROP(SampleStarts, LieInTheRange, (std::uint64_t seed)) {
  const int step = *rc::gen::inRange(0, 1 << 30);
  const auto positions = *rc::gen::inRange<std::size_t>(1, 1000);
  for (const std::size_t start : sample_starts(seed, step, 50, positions)) {
    RC_ASSERT(start < positions);
  }
}

TEST(SampleStarts, ReachEveryPositionAboutEquallyOften) {
  // 10 places, 200 steps of 50: 1000 each, deviation sqrt(10000 * 0.1 * 0.9) = 30; 6 of them
  // allowed.
  std::vector<int> hits(10);
  for (int step = 0; step < 200; ++step) {
    for (const std::size_t start : sample_starts(9, step, 50, 10)) ++hits[start];
  }
  for (const int hit : hits) EXPECT_NEAR(hit, 1000, 180);
}

}  // namespace
}  // namespace plait
