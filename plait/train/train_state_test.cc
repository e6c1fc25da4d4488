#include "plait/train/train_state.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "plait/torch/module_segment.h"
#include "plait/train/job_run.h"
#include "plait/train/pipeline.h"
#include "plait/train/trainer_group.h"
#include "tests/support/jobs.h"

namespace plait {
namespace {

using Numbers = std::vector<std::byte>;
/// What a checkpoint would hold: the numbers of each key, from whoever speaks for them.
using Checkpoint = std::map<std::string, Numbers>;

Checkpoint save(const std::vector<TrainState>& ranks) {
  Checkpoint saved;
  for (const TrainState& state : ranks) {
    for (const StateSlice& slice : state) {
      std::int64_t numbers = 1;
      for (const std::int64_t size : slice.shape) numbers *= size;
      EXPECT_EQ(slice.count, numbers) << slice.key() << ": tensors are whole today";
      EXPECT_EQ(slice.first, 0) << slice.key();
      if (!slice.speaks) continue;
      const bool added =
          saved.emplace(slice.key(), Numbers(slice.bytes.begin(), slice.bytes.end())).second;
      EXPECT_TRUE(added) << slice.key() << ": one rank speaks for it";
    }
  }
  return saved;
}

void load(const Checkpoint& saved, const std::vector<TrainState>& ranks) {
  for (const TrainState& state : ranks) {
    for (const StateSlice& slice : state) {
      const Numbers& bytes = saved.at(slice.key());
      ASSERT_EQ(bytes.size(), slice.bytes.size()) << slice.key();
      std::copy(bytes.begin(), bytes.end(), slice.bytes.begin());
    }
  }
}

class JobState : public testing::JobTest {
 protected:
  struct Run {
    Run(const JobPlan& plan, const DataSplit& data)
        : model(job_model(plan, data)),
          group(TrainerGroup::as_threads(job_setup(plan, model)).value()) {}

    std::vector<TrainState> state() const {
      std::vector<TrainState> all;
      for (const auto& trainer : group->trainers()) all.push_back(trainer->state());
      return all;
    }
    std::vector<double> steps(int count) {
      std::vector<double> losses;
      for (int i = 0; i < count; ++i) {
        const auto ran =
            group->run([&](RankTrainer& trainer, Exchange& exchange) -> Expected<void> {
              PLAIT_TRY(const StepOutcome outcome, trainer.step(0));
              if (exchange.rank() == 0) losses.push_back(outcome.line.loss);
              return {};
            });
        EXPECT_TRUE(ran) << ran.error().text();
      }
      return losses;
    }

    JobModel model;
    std::unique_ptr<TrainerGroup> group;
  };
};

TEST_F(JobState, AFreshTrainerGoesOnFromItWithTheSameBits) {
  for (const auto& [replicas, expert] : {std::pair(1, 1), std::pair(2, 2)}) {
    const JobPlan plan = make_plan(mixture_job(replicas, expert)).value();
    const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
    Run first(plan, data);
    first.steps(3);
    const Checkpoint saved = save(first.state());
    for (const char* key : {"parameter/model.norm.weight", "optimizer.first/model.norm.weight",
                            "optimizer.second/model.layers.2.mlp.experts.3.up_proj.weight",
                            "buffer/model.layers.1.mlp.gate.e_score_correction_bias",
                            "optimizer.steps", "trainer.step", "sampler.seed"})
      EXPECT_TRUE(saved.contains(key)) << key;
    const std::vector<double> goes_on = first.steps(3);

    JobPlan other = plan;
    other.job.run.seed = 77;  // other weights and another sampler, until the state is there
    Run second(other, data);
    load(saved, second.state());
    EXPECT_EQ(second.steps(3), goes_on);
    EXPECT_EQ(save(second.state()), save(first.state()));
  }
}

// Without the moments, the steps or the sampler the next steps would be others.
TEST_F(JobState, EveryKindOfSliceMatters) {
  const JobPlan plan = make_plan(mixture_job(1, 1)).value();
  const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
  Run first(plan, data);
  first.steps(3);
  const Checkpoint saved = save(first.state());
  const std::vector<double> goes_on = first.steps(3);
  for (const char* kind : {"parameter", "buffer", "optimizer.first", "optimizer.second",
                           "optimizer.steps", "trainer.step", "sampler.seed"}) {
    JobPlan other = plan;
    other.job.run.seed = 77;
    Run second(other, data);
    Checkpoint without = saved;
    const Checkpoint fresh = save(second.state());
    for (auto& [key, bytes] : without) {
      if (key.substr(0, key.find('/')) == kind) bytes = fresh.at(key);
    }
    load(without, second.state());
    EXPECT_NE(second.steps(3), goes_on) << kind;
  }
}

constexpr int kWidth = 6, kMicrobatches = 4;

/// A block with a buffer that its forward reads.
struct BlockImpl : torch::nn::Module {
  explicit BlockImpl(int seed) {
    torch::manual_seed(static_cast<std::uint64_t>(seed));
    linear = register_module("linear", torch::nn::Linear(kWidth, kWidth));
    shift = register_buffer("shift", torch::randn({kWidth}));
  }
  torch::Tensor forward(const torch::Tensor& x) { return x + torch::tanh(linear(x) + shift); }
  torch::nn::Linear linear = nullptr;
  torch::Tensor shift;
};
TORCH_MODULE(Block);

std::unique_ptr<Pipeline> make_pipeline(int seed, int data) {
  OwnModel model;
  model.loss = [](const torch::Tensor& output, const torch::Tensor& target) {
    return torch::mse_loss(output, target);
  };
  model.make_stage = [seed](const StagePlace& place) {
    return StageSegments{
        module_segment(std::to_string(place.stage) + ".block", Block(seed + place.stage))};
  };
  PipelineOptions options;
  options.microbatches = kMicrobatches;
  options.data = data;
  options.optimizer.emplace();
  options.steps = 8;
  return Pipeline::make(std::move(model), options).value();
}

std::vector<double> steps(Pipeline& pipeline, int data, int first, int count) {
  std::vector<double> losses;
  for (int step = first; step < first + count; ++step) {
    torch::manual_seed(90U + static_cast<std::uint64_t>(step));
    StepBatch batch;
    for (int i = 0; i < kMicrobatches * data; ++i) {
      batch.inputs.push_back(torch::randn({3, kWidth}));
      batch.targets.push_back(torch::randn({3, kWidth}));
    }
    losses.push_back(pipeline.step(std::move(batch)).value().line.loss);
  }
  return losses;
}

TEST(OwnModuleState, AFreshPipelineGoesOnFromItWithTheSameBits) {
  for (const int data : {1, 2}) {
    const auto first = make_pipeline(1, data);
    steps(*first, data, 0, 3);
    const Checkpoint saved = save(first->state());
    EXPECT_TRUE(saved.contains("buffer/0.block.shift"));
    const std::vector<double> goes_on = steps(*first, data, 3, 3);
    const auto second = make_pipeline(50, data);
    load(saved, second->state());
    EXPECT_EQ(steps(*second, data, 3, 3), goes_on);
    EXPECT_EQ(save(second->state()), save(first->state()));
  }
}

}  // namespace
}  // namespace plait
