#include "plait/base/finite.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <vector>

namespace plait {
namespace {

TEST(Finite, FindsOneNumberWhereverItStands) {
  for (const float wrong : {std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(), std::nanf("")}) {
    for (const std::size_t place :
         {std::size_t{0}, std::size_t{4095}, std::size_t{4096}, std::size_t{9999}}) {
      std::vector<std::uint32_t> bits(
          10000, std::bit_cast<std::uint32_t>(std::numeric_limits<float>::max()));
      EXPECT_FALSE(has_exponent_of_ones<std::uint32_t>(bits, kFloatExponent));
      bits[place] = std::bit_cast<std::uint32_t>(wrong);
      EXPECT_TRUE(has_exponent_of_ones<std::uint32_t>(bits, kFloatExponent)) << wrong << place;
    }
  }
}

TEST(Finite, OfBfloat16Too) {
  const std::vector<std::uint16_t> finite = {0, 0x8000, 0x7f7f, 0xff7f, 1};
  EXPECT_FALSE(has_exponent_of_ones<std::uint16_t>(finite, kBfloat16Exponent));
  for (const std::uint16_t wrong :
       {std::uint16_t{0x7f80}, std::uint16_t{0xff80}, std::uint16_t{0x7fc0}})
    EXPECT_TRUE(has_exponent_of_ones<std::uint16_t>(std::vector{wrong}, kBfloat16Exponent));
}

TEST(Finite, NamesWhatItFound) {
  EXPECT_STREQ(name_of_not_finite(std::nan("")), "nan");
  EXPECT_STREQ(name_of_not_finite(std::numeric_limits<double>::infinity()), "inf");
  EXPECT_STREQ(name_of_not_finite(-std::numeric_limits<double>::infinity()), "-inf");
}

}  // namespace
}  // namespace plait
