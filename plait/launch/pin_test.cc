#include "plait/launch/pin.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace plait {
namespace {

cpu_set_t cores_of_this_thread() {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  return set;
}

TEST(Pin, AThreadAndWhatItStartsStayOnTheRanksCore) {
  const cpu_set_t before = cores_of_this_thread();
  const int last = allowed_cores() - 1;
  std::thread([&] {
    ASSERT_TRUE(pin_to_cores(last, 1));
    const cpu_set_t own = cores_of_this_thread();
    EXPECT_EQ(CPU_COUNT(&own), 1);
    std::thread([&] {
      const cpu_set_t inherited = cores_of_this_thread();
      EXPECT_TRUE(CPU_EQUAL(&inherited, &own));
      ASSERT_TRUE(pin_to_cores(0, 1));  // counts from the process's cores, not from this one
    }).join();
  }).join();
  const cpu_set_t after = cores_of_this_thread();
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(Pin, MoreRanksThanCoresAreRefused) {
  const auto pinned = pin_to_cores(allowed_cores(), 1);
  ASSERT_FALSE(pinned);
  EXPECT_EQ(pinned.error().code, ErrorCode::kInvalidInput);
  EXPECT_NE(pinned.error().text().find("run.pin: rank "), std::string::npos);
  EXPECT_FALSE(pin_to_cores(0, allowed_cores() + 1));
}

}  // namespace
}  // namespace plait
