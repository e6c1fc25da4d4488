#include "plait/base/random.h"

#include <gtest/gtest.h>

namespace plait {
namespace {

// The generator's published sequence from state 0.
TEST(SplitMix, GivesThePublishedBits) {
  EXPECT_EQ(split_mix(0), 0xe220a8397b1dcdafULL);
  EXPECT_EQ(split_mix(kSplitMixStep), 0x6e789e6aa1b965f4ULL);
  EXPECT_EQ(split_mix(2 * kSplitMixStep), 0x06c45d188009454fULL);
}

}  // namespace
}  // namespace plait
