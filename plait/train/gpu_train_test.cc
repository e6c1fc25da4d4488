#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "plait/torch/device_cuda.h"
#include "plait/train/job_run.h"
#include "tests/support/jobs.h"

namespace plait {
namespace {

/// Loss and norm of each step, then the validation's loss.
using Course = std::vector<double>;

class CudaTraining : public testing::JobTest {
 protected:
  void SetUp() override {
    JobTest::SetUp();
    if (const Expected<void> ready = prepare_cuda(); !ready) GTEST_SKIP() << ready.error().text();
  }

  /// Eight layers, so that four ranks have two stages each.
  JobConfig llama_job(const std::string& schedule, int ranks) const {
    JobConfig job = mixture_job(1, 1);
    job.model = {};
    job.model.hidden_size = 64;
    job.model.intermediate_size = 96;
    job.model.num_hidden_layers = 8;
    job.model.num_attention_heads = 4;
    job.model.num_key_value_heads = 2;
    job.parallel.schedule = schedule;
    job.parallel.pipeline = ranks;
    job.parallel.microbatches = 8;
    job.parallel.pairs = "sequence";
    job.run.batch_size = 16;
    job.run.steps = 4;
    job.run.device = "cuda";
    return job;
  }

  static Course train(const JobConfig& job, bool reference = false) {
    Course course;
    const auto plan = make_plan(job);
    if (!plan) {
      ADD_FAILURE() << plan.error().text();
      return course;
    }
    const DataSplit data = open_data(plan->job.data, plan->job.model.vocab_size).value();
    RunHooks hooks;
    hooks.on_step = [&](const StepOutcome& step) -> Expected<void> {
      course.push_back(step.line.loss);
      course.push_back(step.line.grad_norm);
      return {};
    };
    hooks.on_validation = [&](const ValidationLine& line) -> Expected<void> {
      course.push_back(line.loss);
      return {};
    };
    JobModel model = job_model(*plan, data);
    const TrainSetup setup = job_setup(*plan, model);
    const RunLength length = run_length(*plan);
    const auto ran =
        reference ? run_reference(setup, length, hooks) : run_in_process(setup, length, hooks);
    EXPECT_TRUE(ran) << ran.error().text();
    return course;
  }
};

TEST_F(CudaTraining, SchedulesOnFourRanksOfOneGpuHaveTheBitsOfOneRank) {
  for (const char* dtype : {"float32", "bfloat16"}) {
    const auto job = [&](const char* schedule, int ranks) {
      JobConfig made = llama_job(schedule, ranks);
      made.run.dtype = dtype;
      return made;
    };
    const Course alone = train(job("gpipe", 1));
    ASSERT_EQ(alone.size(), 9U) << dtype;
    EXPECT_EQ(train(job("gpipe", 1), /*reference=*/true), alone) << dtype;
    for (const char* schedule : {"gpipe", "1f1b", "zbv", "dualpipe-v"})
      EXPECT_EQ(train(job(schedule, 4)), alone) << schedule << " in " << dtype;
  }
}

TEST_F(CudaTraining, ItLearnsAsOnTheCpu) {
  for (const auto& [dtype, tolerance] : {std::pair("float32", 1e-3), std::pair("bfloat16", 2e-2)}) {
    JobConfig job = llama_job("1f1b", 4);
    job.run.dtype = dtype;
    const Course gpu = train(job);
    job.run.device = "cpu";
    const Course host = train(job);
    ASSERT_EQ(gpu.size(), host.size());
    for (std::size_t i = 0; i < gpu.size(); ++i)
      EXPECT_NEAR(gpu[i], host[i], tolerance * host[i]) << dtype;
  }
}

TEST_F(CudaTraining, BraidedPairsOfAMixtureHaveTheBitsOfTheReference) {
  JobConfig job = mixture_job(1, 2);
  job.run.device = "cuda";
  job.run.steps = 4;
  const Course needed = train(job, /*reference=*/true);
  ASSERT_EQ(needed.size(), 9U);
  EXPECT_EQ(train(job), needed);
  job.parallel.pairs = "sequence";
  EXPECT_EQ(train(job), needed);
  job.run.dtype = "bfloat16";
  const Course half = train(job, /*reference=*/true);
  job.parallel.pairs = "braid";
  EXPECT_EQ(train(job), half);
}

TEST_F(CudaTraining, ReplicasHaveTheBitsOfTheReference) {
  JobConfig job = mixture_job(2, 2);
  job.run.device = "cuda";
  job.run.steps = 3;
  const Course needed = train(job, /*reference=*/true);
  ASSERT_EQ(needed.size(), 7U);
  EXPECT_EQ(train(job), needed);
}

TEST_F(CudaTraining, TimesAndBytesOfAStepAreTheDevices) {
  const JobPlan plan = make_plan(llama_job("zbv", 4)).value();
  const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
  RunHooks hooks;
  int steps = 0;
  hooks.on_step = [&](const StepOutcome& step) -> Expected<void> {
    ++steps;
    for (const double share : step.line.bubble_share) {
      EXPECT_GE(share, 0.0);
      EXPECT_LT(share, 1.0);
    }
    for (const Bytes peak : step.line.peak_activation_bytes) EXPECT_GT(peak, 0);
    return {};
  };
  JobModel model = job_model(plan, data);
  ASSERT_TRUE(run_in_process(job_setup(plan, model), run_length(plan), hooks));
  EXPECT_EQ(steps, plan.job.run.steps);
}

}  // namespace
}  // namespace plait
