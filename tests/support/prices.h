/// Prices of schedules for tests: what fails is a failure of the test.
#pragma once

#include <gtest/gtest.h>

#include <string_view>
#include <utility>

#include "plait/schedule/generators.h"
#include "plait/sim/simulate.h"
#include "plait/verify/verify.h"

namespace plait::testing {

inline VerifiedSchedule proven(Schedule schedule) {
  auto verified = verify(std::move(schedule));
  EXPECT_TRUE(verified) << verified.error().front().text();
  return *std::move(verified);
}

inline VerifiedSchedule proven(std::string_view name, int ranks, int microbatches, int chunks) {
  Expected<Schedule> schedule =
      generate(name, {.ranks = ranks, .microbatches = microbatches, .chunks = chunks});
  EXPECT_TRUE(schedule) << schedule.error().text();
  return proven(*std::move(schedule));
}

inline Prediction price(const VerifiedSchedule& schedule, const CostModel& costs) {
  Expected<Prediction> prediction = simulate(schedule, costs);
  EXPECT_TRUE(prediction) << prediction.error().text();
  return *std::move(prediction);
}

}  // namespace plait::testing
