#include "plait/runtime/clock_alignment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace plait {
namespace {

/// Exchanges of ranks whose clocks are ahead of the true time by known amounts.
class Exchanges {
 public:
  explicit Exchanges(std::vector<Nanoseconds> ahead) : ahead_(std::move(ahead)) {}

  /// Every rank enters within `spread` and leaves within `delay` after the last has entered.
  std::vector<std::array<Nanoseconds, 2>> next(Nanoseconds spread, Nanoseconds delay) {
    std::uniform_int_distribution<Nanoseconds> enter(0, spread), leave(0, delay);
    std::vector<std::array<Nanoseconds, 2>> exchange(ahead_.size());
    Nanoseconds all_there = time_;
    for (auto& rank : exchange) {
      rank[0] = time_ + enter(random_);
      all_there = std::max(all_there, rank[0]);
    }
    for (std::size_t rank = 0; rank < ahead_.size(); ++rank) {
      exchange[rank][1] = all_there + leave(random_) + ahead_[rank];
      exchange[rank][0] += ahead_[rank];
    }
    time_ = all_there + delay;
    return exchange;
  }
  void pass(Nanoseconds time) { time_ += time; }
  void set(std::size_t rank, Nanoseconds ahead) { ahead_[rank] = ahead; }

 private:
  std::vector<Nanoseconds> ahead_;
  Nanoseconds time_ = 5'000'000;
  std::mt19937_64 random_{7};
};

TEST(ClockAlignment, RanksOfOneClockNeedNoEstimate) {
  ClockAlignment alignment({"a", "a"});
  EXPECT_TRUE(alignment.is_one_clock());
  alignment.add({{10, 20}, {500, 900}});
  EXPECT_EQ(alignment.worst_error(), 0);
  EXPECT_EQ(alignment.offsets()[1].offset, 0);
  EXPECT_FALSE(ClockAlignment({"", ""}).is_one_clock());
  EXPECT_TRUE(ClockAlignment({clock_name(), clock_name()}).is_one_clock());
}

TEST(ClockAlignment, TheTruthLiesWithinTheStatedError) {
  const std::vector<Nanoseconds> ahead = {0, 3'000'000'000, -77'000};
  Exchanges exchanges(ahead);
  ClockAlignment alignment({"a", "b", "c"});
  Nanoseconds before = alignment.worst_error();
  for (int i = 0; i < 20; ++i) {
    alignment.add(exchanges.next(100'000, 60'000));
    const std::vector<ClockOffset> offsets = alignment.offsets();
    for (std::size_t rank = 0; rank < ahead.size(); ++rank)
      EXPECT_LE(std::abs(offsets[rank].offset - ahead[rank]), offsets[rank].error);
    EXPECT_LE(alignment.worst_error(), before + 100);
    before = alignment.worst_error();
  }
  EXPECT_LT(before, 60'000);
  EXPECT_GT(before, 0);
}

TEST(ClockAlignment, RanksOfOneMachineTightenEachOthersBounds) {
  ClockAlignment alone({"a", "b"});
  alone.add({{0, 100}, {1000, 1100}});
  EXPECT_EQ(alone.offsets()[1].offset, 1000);
  EXPECT_EQ(alone.offsets()[1].error, 100);
  ClockAlignment together({"a", "b", "b"});
  together.add({{0, 100}, {1000, 1100}, {1060, 1070}});
  EXPECT_EQ(together.offsets()[1].error, 55);  // from 1060 - 100 to 1070 - 0
  EXPECT_EQ(together.offsets()[2].offset, together.offsets()[1].offset);
}

TEST(ClockAlignment, WhatWasSeenLongAgoSaysLess) {
  Exchanges exchanges({0, 1'000'000});
  ClockAlignment alignment({"a", "b"});
  for (int i = 0; i < 20; ++i) alignment.add(exchanges.next(1000, 1000));
  const Nanoseconds error = alignment.worst_error();
  exchanges.pass(1'000'000'000);
  alignment.add(exchanges.next(10'000'000, 10'000'000));  // says little by itself
  EXPECT_GE(alignment.worst_error(), error + 90'000);
  EXPECT_LE(alignment.worst_error(), error + 110'000);
}

TEST(ClockAlignment, AClockThatWasSetIsEstimatedAnew) {
  Exchanges exchanges({0, 0});
  ClockAlignment alignment({"a", "b"});
  for (int i = 0; i < 20; ++i) alignment.add(exchanges.next(1000, 1000));
  exchanges.set(1, 4'000'000);
  for (int i = 0; i < 20; ++i) alignment.add(exchanges.next(1000, 1000));
  const ClockOffset offset = alignment.offsets()[1];
  EXPECT_LE(std::abs(offset.offset - 4'000'000), offset.error);
  EXPECT_LT(offset.error, 2000);
}

}  // namespace
}  // namespace plait
