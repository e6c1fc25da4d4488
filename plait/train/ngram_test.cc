#include "plait/train/ngram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

namespace plait {
namespace {

std::span<const std::uint8_t> bytes(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

double probability(const std::string& train, const std::string& context, char next, int order) {
  const std::string test = context + next;
  return std::exp2(-witten_bell_bits_per_byte(bytes(train), bytes(test), context.size(), order));
}

TEST(Ngram, UnigramByHand) {
  // "aab": 3 bytes, 2 kinds. p(a) = (2 + 2/256) / (3 + 2), p(c) = (0 + 2/256) / 5.
  EXPECT_NEAR(probability("aab", "", 'a', 1), (2 + 2.0 / 256) / 5, 1e-12);
  EXPECT_NEAR(probability("aab", "", 'c', 1), (2.0 / 256) / 5, 1e-12);
}

TEST(Ngram, BigramByHand) {
  // "aab": after a came a and b, once each. p(b|a) = (1 + 2 p(b)) / (2 + 2), p(b) = (1 + 2/256)
  // / 5.
  const double unigram = (1 + 2.0 / 256) / 5;
  EXPECT_NEAR(probability("aab", "a", 'b', 2), (1 + 2 * unigram) / 4, 1e-12);
  // After b came nothing: the unigram. So it is where there is no context yet.
  EXPECT_NEAR(probability("aab", "b", 'b', 2), unigram, 1e-12);
  EXPECT_NEAR(probability("aab", "", 'b', 2), unigram, 1e-12);
}

TEST(Ngram, TrigramByHand) {
  // "abcabd": after ab came c and d. p(c|ab) = (1 + 2 p(c|b)) / 4, p(c|b) = (1 + 2 p(c)) / 4,
  // p(c) = (1 + 4/256) / (6 + 4).
  const double unigram = (1 + 4.0 / 256) / 10;
  const double bigram = (1 + 2 * unigram) / 4;
  EXPECT_NEAR(probability("abcabd", "ab", 'c', 3), (1 + 2 * bigram) / 4, 1e-12);
  // xb was never seen, b was.
  EXPECT_NEAR(probability("abcabd", "xb", 'c', 3), bigram, 1e-12);
}

TEST(Ngram, ProbabilitiesOfAllBytesAddToOne) {
  const std::string train = "the cat sat on the mat and the dog sat on the cat";
  for (int order = 1; order <= 4; ++order) {
    for (const std::string context : {"", "t", "th", "the", "at o", "zzz", "s t"}) {
      double sum = 0;
      for (int byte = 0; byte < 256; ++byte)
        sum += probability(train, context, static_cast<char>(byte), order);
      EXPECT_NEAR(sum, 1, 1e-9) << order << " after '" << context << "'";
    }
  }
}

TEST(Ngram, BitsAreTheMeanOverThePositions) {
  const std::string train = "abracadabra";
  const std::string test = "cabra";
  double bits = 0;
  for (std::size_t i = 2; i < test.size(); ++i)
    bits -= std::log2(probability(train, test.substr(0, i), test[i], 3));
  EXPECT_NEAR(witten_bell_bits_per_byte(bytes(train), bytes(test), 2, 3), bits / 3, 1e-12);
}

TEST(Ngram, LongerContextsHelpOnRepetitiveText) {
  std::string train;
  for (int i = 0; i < 50; ++i) train += "in the beginning was the word ";
  double before = 9;
  for (int order = 1; order <= 4; ++order) {
    const double bits = witten_bell_bits_per_byte(bytes(train), bytes(train), 1, order);
    EXPECT_LT(bits, before);
    before = bits;
  }
}

}  // namespace
}  // namespace plait
