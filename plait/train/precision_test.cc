#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "plait/train/job_run.h"
#include "plait/train/trainer_group.h"
#include "tests/support/jobs.h"
#include "tests/support/steps.h"

namespace plait {
namespace {

/// A run of some steps: losses and norms, and the dtypes of its state by what they are of.
struct Outcome {
  testing::Course course;
  std::map<std::string, std::string> dtypes;
};

class Precision : public testing::JobTest {
 protected:
  static Outcome train(const JobConfig& job, bool reference = false, int steps = 2) {
    Outcome outcome;
    const auto plan = make_plan(job);
    if (!plan) {
      ADD_FAILURE() << plan.error().text();
      return outcome;
    }
    const DataSplit data = open_data(plan->job.data, plan->job.model.vocab_size).value();
    JobModel model = job_model(*plan, data);
    const TrainSetup setup = job_setup(*plan, model);
    const auto group =
        (reference ? TrainerGroup::as_reference(setup) : TrainerGroup::as_threads(setup)).value();
    outcome.course = testing::run_steps(*group, steps);
    for (const auto& trainer : group->trainers()) {
      for (const StateSlice& slice : trainer->state())
        if (!slice.name.empty()) outcome.dtypes[slice.what] = slice.dtype;
    }
    return outcome;
  }

  JobConfig in_bfloat16(int data, int expert) const {
    JobConfig job = mixture_job(data, expert);
    job.run.dtype = "bfloat16";
    return job;
  }
};

TEST_F(Precision, EveryScheduleHasTheBitsOfTheReference) {
  struct Case {
    int replicas, experts;
    const char *schedule, *pairs;
  };
  for (const Case& one : {Case{1, 1, "zbv", "sequence"}, Case{1, 2, "dualpipe-v", "braid"},
                          Case{2, 1, "1f1b", "sequence"}}) {
    SCOPED_TRACE(one.schedule);
    JobConfig job = in_bfloat16(one.replicas, one.experts);
    const Outcome needed = train(job, /*reference=*/true);
    ASSERT_EQ(needed.course.losses.size(), 2U);
    job.parallel.schedule = one.schedule;
    job.parallel.pairs = one.pairs;
    const Outcome found = train(job);
    EXPECT_EQ(found.course, needed.course);
  }
}

// Rounded copies are renewed when the parameters have come.
TEST_F(Precision, SharedOutParametersHaveTheSameBits) {
  JobConfig job = in_bfloat16(2, 1);
  const Outcome needed = train(job, /*reference=*/true);
  for (const char* mode : {"optimizer", "gradients", "parameters"}) {
    job.parallel.shard = mode;
    const Outcome found = train(job);
    EXPECT_EQ(found.course, needed.course) << mode;
  }
}

TEST_F(Precision, RecomputationHasTheSameBits) {
  JobConfig job = in_bfloat16(1, 1);
  const Outcome needed = train(job);
  job.parallel.recompute = "full";
  EXPECT_EQ(train(job).course.losses, needed.course.losses);
}

TEST_F(Precision, WhatStaysBetweenStepsIsFloat32) {
  const Outcome outcome = train(in_bfloat16(1, 1), false, 1);
  for (const char* what : {"parameter", "buffer", "optimizer.first", "optimizer.second"})
    EXPECT_EQ(outcome.dtypes.at(what), "F32") << what;
}

// Losses are of another rounding, and near those of float32.
TEST_F(Precision, ItLearnsAsInFloat32) {
  constexpr int kSteps = 10;
  JobConfig job = in_bfloat16(1, 1);
  job.model.hidden_dropout = 0;
  job.run.steps = kSteps;
  const Outcome half = train(job, false, kSteps);
  job.run.dtype = "float32";
  const Outcome whole = train(job, false, kSteps);
  EXPECT_NE(half.course.losses, whole.course.losses);
  for (std::size_t i = 0; i < whole.course.losses.size(); ++i)
    EXPECT_NEAR(half.course.losses[i], whole.course.losses[i], 0.01 * whole.course.losses[i]) << i;
}

// Hidden states travel in two bytes a number.
TEST_F(Precision, MessagesHaveHalfTheBytes) {
  JobConfig job = in_bfloat16(1, 1);
  const Bytes half = make_plan(job).value().message_bytes();
  job.run.dtype = "float32";
  EXPECT_EQ(2 * half, make_plan(job).value().message_bytes());
}

}  // namespace
}  // namespace plait
