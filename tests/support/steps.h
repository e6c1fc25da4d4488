/// Steps of a group of trainers, for tests.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "plait/train/trainer_group.h"

namespace plait::testing {

/// By step, as rank 0 has them.
struct Course {
  std::vector<double> losses, norms;
  friend bool operator==(const Course&, const Course&) = default;
};

/// An error fails the test.
inline Course run_steps(TrainerGroup& group, int steps) {
  Course course;
  for (int step = 0; step < steps; ++step) {
    const auto ran = group.run([&](RankTrainer& trainer, Exchange& exchange) -> Expected<void> {
      PLAIT_TRY(const StepOutcome one, trainer.step(0));
      if (exchange.rank() != 0) return {};
      course.losses.push_back(one.line.loss);
      course.norms.push_back(one.line.grad_norm);
      return {};
    });
    EXPECT_TRUE(ran) << ran.error().text();
  }
  return course;
}

}  // namespace plait::testing
