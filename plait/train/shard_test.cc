// Replicas that share out what they hold train as those that hold everything, and as one process.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <map>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "plait/train/job_run.h"
#include "plait/train/trainer_group.h"
#include "tests/support/jobs.h"

namespace plait {
namespace {

/// What a run leaves: losses and norms of its steps, the validation's loss, and the tensors of its
/// state, put together of the slices of all ranks.
struct Outcome {
  std::vector<double> losses, norms, validation;
  std::map<std::string, std::vector<std::byte>> state;
};

void add_state(RankTrainer& trainer, Outcome& outcome) {
  for (const StateSlice& slice : trainer.state()) {
    if (!slice.speaks) continue;
    std::size_t numbers = 1;
    for (const std::int64_t size : slice.shape) numbers *= static_cast<std::size_t>(size);
    const std::size_t width = slice.bytes.size() / static_cast<std::size_t>(slice.count);
    std::vector<std::byte>& whole = outcome.state[slice.key()];
    whole.resize(numbers * width);
    std::memcpy(whole.data() + static_cast<std::size_t>(slice.first) * width, slice.bytes.data(),
                slice.bytes.size());
  }
}

using Make = TrainerGroup::Made (*)(const TrainSetup& setup);
TrainerGroup::Made make_threads(const TrainSetup& setup) { return TrainerGroup::as_threads(setup); }

/// Two steps, a validation, a step.
Outcome train(const JobConfig& job, Make make) {
  const Expected<JobPlan> plan = make_plan(job);
  if (!plan) {
    ADD_FAILURE() << plan.error().text();
    return {};
  }
  const DataSplit data = open_data(plan->job.data, plan->job.model.vocab_size).value();
  JobModel model = job_model(*plan, data);
  const auto group = make(job_setup(*plan, model)).value();
  Outcome outcome;
  for (int step = 0; step < 3; ++step) {
    const auto ran = group->run([&](RankTrainer& trainer, Exchange& exchange) -> Expected<void> {
      PLAIT_TRY(const StepOutcome one, trainer.step(0));
      if (exchange.rank() == 0) {
        outcome.losses.push_back(one.line.loss);
        outcome.norms.push_back(one.line.grad_norm);
      }
      if (step != 1) return {};
      PLAIT_TRY(const ValidationLine line, trainer.validate());
      if (exchange.rank() == 0) outcome.validation.push_back(line.loss);
      return {};
    });
    EXPECT_TRUE(ran) << ran.error().text();
    if (!ran) return outcome;
  }
  for (const auto& trainer : group->trainers()) add_state(*trainer, outcome);
  return outcome;
}

struct Case {
  std::string schedule;
  int data = 2;
  int expert = 1;
  bool experts = false;
  bool tied = false;
  std::string recompute = "none";
  std::string pairs = "sequence";
  double clip_norm = 1.0;
  int accumulate = 1;
  std::vector<int> layers_per_stage{};
  int active = 0;  ///< stages at a time
  int sends = 0;   ///< outstanding

  friend std::ostream& operator<<(std::ostream& out, const Case& one) {
    return out << one.schedule << " data " << one.data << " expert " << one.expert
               << (one.experts ? " experts" : "") << (one.tied ? " tied" : "") << " recompute "
               << one.recompute << " pairs " << one.pairs << " clip " << one.clip_norm
               << " accumulate " << one.accumulate << " active " << one.active << " sends "
               << one.sends;
  }
};

class ShardedReplicas : public testing::JobTest, public ::testing::WithParamInterface<Case> {
 protected:
  JobConfig job() const {
    const Case& given = GetParam();
    JobConfig job = mixture_job(given.data, given.expert);
    if (!given.experts) {
      job.model.architecture = "llama";
      job.model.n_routed_experts = job.model.n_shared_experts = job.model.num_experts_per_tok = 0;
      job.model.first_k_dense_replace = 0;
      job.model.moe_intermediate_size = 0;
      job.model.bias_update_speed = 0;
    }
    job.model.tie_word_embeddings = given.tied;
    job.parallel.schedule = given.schedule;
    job.parallel.recompute = given.recompute;
    job.parallel.pairs = given.pairs;
    job.parallel.layers_per_stage = given.layers_per_stage;
    job.parallel.max_active_stages = given.active;
    job.parallel.max_outstanding_sends = given.sends;
    job.optimizer.clip_norm = given.clip_norm;
    job.optimizer.accumulate = given.accumulate;
    job.run.batch_size *= given.accumulate;
    return job;
  }
};

class SharedMemory : public testing::JobTest {};

TEST_P(ShardedReplicas, TrainBitForBitAsWholeOnes) {
  JobConfig job = this->job();
  const Outcome expected = train(job, TrainerGroup::as_reference);
  ASSERT_EQ(expected.losses.size(), 3U);
  ASSERT_EQ(expected.validation.size(), 1U);
  for (const std::string_view mode : kShardModeNames) {
    SCOPED_TRACE(mode);
    job.parallel.shard = mode;
    const Outcome found = train(job, make_threads);
    EXPECT_EQ(found.losses, expected.losses);
    EXPECT_EQ(found.norms, expected.norms);
    EXPECT_EQ(found.validation, expected.validation);
    EXPECT_TRUE(found.state == expected.state);
  }
}

// Between steps a rank of two replicas holds, in bytes of its parameters N: none 4 N; optimizer 2 N
// and half of 2 N; gradients N, N / 2 and N; parameters 4 N / 2.
TEST_F(SharedMemory, IsWhatTheModeLeaves) {
  JobConfig job = mixture_job(2, 1);
  job.parallel.schedule = "dualpipe-v";
  std::array<double, 4> bytes{};
  for (std::size_t mode = 0; mode < bytes.size(); ++mode) {
    job.parallel.shard = kShardModeNames[mode];
    const JobPlan plan = make_plan(job).value();
    const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
    JobModel model = job_model(plan, data);
    const auto group = make_threads(job_setup(plan, model)).value();
    const auto ran = group->run([&](RankTrainer& trainer, Exchange&) -> Expected<void> {
      PLAIT_TRY_VOID(trainer.step(0));
      return {};
    });
    ASSERT_TRUE(ran) << ran.error().text();
    bytes[mode] = static_cast<double>(group->trainers().front()->lasting().live());
  }
  for (const auto& [mode, share] : {std::pair(1U, 3.0 / 4), {2U, 2.5 / 4}, {3U, 2.0 / 4}})
    EXPECT_NEAR(bytes[mode] / bytes[0], share, 0.05 * share) << kShardModeNames[mode];
}

// Every schedule with every number of replicas and every way of training at least once.
INSTANTIATE_TEST_SUITE_P(
    Cover, ShardedReplicas,
    ::testing::Values(
        Case{.schedule = "1f1b", .data = 2, .recompute = "full", .clip_norm = 0.05},
        Case{.schedule = "1f1b", .data = 3, .accumulate = 2, .layers_per_stage = {5, 1}},
        Case{.schedule = "1f1b", .data = 2, .expert = 2, .experts = true},
        Case{.schedule = "zbv", .data = 2, .tied = true, .accumulate = 2},
        Case{.schedule = "zbv", .data = 3, .recompute = "selective", .clip_norm = 0.05},
        Case{.schedule = "zbv", .data = 1, .expert = 2, .experts = true, .clip_norm = 0.05},
        Case{.schedule = "zbv", .data = 2, .tied = true, .active = 1, .sends = 1},
        Case{.schedule = "dualpipe-v", .data = 3, .tied = true, .recompute = "full"},
        Case{.schedule = "dualpipe-v",
             .data = 2,
             .expert = 2,
             .experts = true,
             .pairs = "braid",
             .clip_norm = 0.05,
             .accumulate = 2},
        Case{.schedule = "dualpipe-v", .data = 2, .experts = true, .pairs = "braid"},
        Case{.schedule = "interleaved-1f1b", .data = 2, .clip_norm = 0.05, .accumulate = 2},
        Case{.schedule = "interleaved-1f1b",
             .data = 2,
             .recompute = "full",
             .active = 1,
             .sends = 2},
        Case{.schedule = "interleaved-1f1b", .data = 3, .experts = true, .recompute = "full"}));

}  // namespace
}  // namespace plait
