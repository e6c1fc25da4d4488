#include "plait/train/memory_plan.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "plait/checkpoint/model_folder.h"
#include "plait/model/part_memory.h"
#include "plait/nn/model.h"
#include "plait/torch/memory.h"
#include "plait/train/column_share.h"
#include "plait/train/job_run.h"

namespace plait {
namespace {

class MemoryPlan : public testing::Test {
 protected:
  void SetUp() override {
    path_ = (std::filesystem::temp_directory_path() / ("plait_memory_" + std::to_string(getpid())))
                .string();
    std::ofstream text(path_);
    for (int i = 0; i < 20000; ++i) text << static_cast<char>(32 + (i * i + i / 7) % 90);
  }
  void TearDown() override { std::filesystem::remove(path_); }

  /// Two ranks, four micro-batches of two sequences; `expert` 0: a dense model.
  JobConfig job(const std::string& schedule, int expert) const {
    JobConfig job;
    job.model.hidden_size = 32;
    job.model.intermediate_size = 48;
    job.model.num_hidden_layers = 6;
    job.model.num_attention_heads = 4;
    job.model.num_key_value_heads = 2;
    if (expert > 0) {
      job.model.architecture = "deepseek-v3";
      job.model.n_routed_experts = 8;
      job.model.n_shared_experts = 1;
      job.model.num_experts_per_tok = 2;
      job.model.moe_intermediate_size = 24;
      job.model.first_k_dense_replace = 1;
    }
    job.data.train = path_;
    job.data.sequence_length = 32;
    job.parallel.pipeline = 2;
    job.parallel.schedule = schedule;
    job.parallel.microbatches = 4;
    job.parallel.expert = std::max(1, expert);
    job.parallel.pairs = "braid";
    job.run.batch_size = 8 * job.parallel.expert;
    job.run.steps = 1;
    job.data.validation_share = 0.04;
    return job;
  }

  /// Trains; by rank, the largest share of what was planned that was needed.
  std::vector<double> needed(const JobConfig& job) const {
    const JobPlan plan = make_plan(job).value();
    const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
    std::vector<double> shares(static_cast<std::size_t>(plan.ranks()));
    RunHooks hooks;
    hooks.validates = false;
    hooks.on_step = [&](const StepOutcome& outcome) -> Expected<void> {
      for (std::size_t rank = 0; rank < shares.size(); ++rank) {
        const auto place =
            static_cast<std::size_t>(plan.grid().pipeline_of(static_cast<int>(rank)));
        shares[rank] =
            std::max(shares[rank], static_cast<double>(outcome.line.peak_activation_bytes[rank]) /
                                       static_cast<double>(*plan.memory[place].activations));
      }
      return {};
    };
    JobModel model = job_model(plan, data);
    const auto ran = run_in_process(job_setup(plan, model), run_length(plan), hooks);
    EXPECT_TRUE(ran) << ran.error().text();
    return shares;
  }

  /// Trains; by rank of the pipeline, the share of planned parameters, gradients and optimiser
  /// state that the column which holds most has needed.
  std::vector<double> needed_state(const JobPlan& plan) const {
    const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
    std::vector<double> shares(plan.memory.size());
    RunHooks hooks;
    hooks.validates = false;
    hooks.on_step = [&](const StepOutcome& outcome) -> Expected<void> {
      for (int rank = 0; rank < plan.ranks(); ++rank) {
        const auto place = static_cast<std::size_t>(plan.grid().pipeline_of(rank));
        const Bytes peak = outcome.line.peak_state_bytes[static_cast<std::size_t>(rank)];
        shares[place] =
            std::max(shares[place],
                     static_cast<double>(peak) / static_cast<double>(plan.memory[place].state()));
      }
      return {};
    };
    JobModel model = job_model(plan, data);
    const auto ran = run_in_process(job_setup(plan, model), run_length(plan), hooks);
    EXPECT_TRUE(ran) << ran.error().text();
    return shares;
  }

  std::string path_;
};

// A bound that is never passed, and is no more than a few times what is needed.
TEST_F(MemoryPlan, NoRankNeedsMoreThanWasPlanned) {
  for (const char* schedule : {"dualpipe-v", "1f1b", "zbv", "gpipe"}) {
    for (const int expert : {0, 2}) {
      for (const char* recompute : {"none", "selective", "full"}) {
        JobConfig one = job(schedule, expert);
        one.parallel.recompute = recompute;
        one.model.hidden_dropout = 0.2;
        const std::vector<double> shares = needed(one);
        for (std::size_t rank = 0; rank < shares.size(); ++rank) {
          SCOPED_TRACE(testing::Message() << schedule << ", expert " << expert << ", recompute "
                                          << recompute << ", rank " << rank);
          EXPECT_LE(shares[rank], 1.0);
          EXPECT_GE(shares[rank], 0.3);
        }
      }
    }
  }
}

TEST_F(MemoryPlan, HoldsForOtherShapes) {
  std::vector<JobConfig> jobs;
  const auto add = [&](const char* schedule, int expert, const auto& change) {
    jobs.push_back(job(schedule, expert));
    change(jobs.back());
  };
  for (const int expert : {0, 2}) {
    const auto many = [](JobConfig& one) {
      one.run.batch_size *= 4;
      one.parallel.microbatches *= 4;
    };
    add("gpipe", expert, many);
    add("zbv", expert, many);
    add("interleaved-1f1b", expert, many);
    add("dualpipe-v", expert, [](JobConfig& one) { one.data.sequence_length = 300; });
    add("dualpipe-v", expert, [](JobConfig& one) { one.run.threads = 3; });
    add("dualpipe-v", expert, [](JobConfig& one) { one.parallel.pipeline = 1; });
    add("dualpipe-v", expert, [](JobConfig& one) { one.model.tie_word_embeddings = true; });
    add("1f1b", expert, [](JobConfig& one) { one.model.vocab_size = 2000; });
    for (const char* recompute : {"none", "full"}) {
      const auto narrow = [&](JobConfig& one) {
        one.run.dtype = "bfloat16";
        one.parallel.recompute = recompute;
      };
      add("dualpipe-v", expert, narrow);
      add("1f1b", expert, narrow);
    }
    add("1f1b", expert, [](JobConfig& one) {
      one.parallel.data = 2;
      one.run.batch_size *= 2;
    });
    add("dualpipe-v", expert, [](JobConfig& one) {
      one.parallel.pipeline = 4;
      one.model.num_hidden_layers = 8;
      one.parallel.microbatches = 8;
      one.run.batch_size *= 2;
    });
  }
  for (const char* architecture : {"qwen2", "qwen3"}) {
    for (const char* schedule : {"gpipe", "zbv"}) {
      add(schedule, 0, [&](JobConfig& one) {
        one.model.architecture = architecture;
        one.model.head_dim = 2 * one.model.head_size();
      });
    }
  }
  for (const char* recompute : {"none", "full"}) {
    add("zbv", 0, [&](JobConfig& one) {
      const int layers = one.model.num_hidden_layers;
      one.parallel.layers_per_stage = {0, 1, layers - 1, 0};
      one.parallel.recompute = recompute;
    });
  }
  for (const JobConfig& one : jobs) {
    const std::vector<double> shares = needed(one);
    for (std::size_t rank = 0; rank < shares.size(); ++rank) {
      SCOPED_TRACE(print_job_config(one));
      EXPECT_LE(shares[rank], 1.0);
      EXPECT_GE(shares[rank], 0.2);
    }
  }
}

// A bias that outweighs all scores sends every token to the first experts, which one member holds:
// what the plan without a bound is for.
TEST_F(MemoryPlan, HoldsWhereAllRowsGoToOneRank) {
  JobConfig one = job("gpipe", 2);
  LanguageModel model = LanguageModel::make(one.model, 1, one.data.sequence_length).value();
  for (const Parameter& bias : model.store().buffers()) bias.tensor.narrow(0, 0, 4).fill_(10);
  const std::string folder = path_ + "_model";
  ASSERT_TRUE(
      write_model_folder(folder, one.model, one.data.sequence_length, model.store().tensors()));
  one.model.init = folder;
  for (const char* recompute : {"none", "selective", "full"}) {
    one.parallel.recompute = recompute;
    const std::vector<double> skewed = needed(one);
    for (std::size_t rank = 0; rank < skewed.size(); ++rank) {
      EXPECT_LE(skewed[rank], 1.0);
    }
    EXPECT_GT(skewed[0], 1.25 * skewed[1]);
  }
  one.parallel.token_bound = 1.5;
  const JobPlan plan = make_plan(one).value();
  const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
  JobModel source = job_model(plan, data);
  const auto ran = run_in_process(job_setup(plan, source), run_length(plan), {});
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().code, ErrorCode::kRuntime);
  // 2 sequences of 32 tokens with 2 copies each are 128 rows; 2 times as many come.
  EXPECT_EQ(ran.error().text(),
            "rank 0 in 0F0 dispatch 0, segment layers.1.dispatch, micro-batch 0: step 1: "
            "layers.1.dispatch would bring 256 rows, parallel.token_bound 1.5 allows 192 (the even "
            "share is 128)");
  std::filesystem::remove_all(folder);
}

TEST_F(MemoryPlan, WhatStaysIsWhatIsAllocated) {
  for (const int expert : {0, 1, 2}) {
    for (const bool tied : {false, true}) {
      JobConfig one = job("dualpipe-v", expert);
      one.model.tie_word_embeddings = tied;
      if (tied) one.run.dtype = "bfloat16";
      // The ends alone: no table of positions is made for them.
      if (expert == 1) one.parallel.layers_per_stage = {0, 1, one.model.num_hidden_layers - 1, 0};
      const JobPlan plan = make_plan(one).value();
      const DataSplit data = open_data(plan.job.data, plan.job.model.vocab_size).value();
      install_counting_allocator();
      for (int rank = 0; rank < plan.placement().ranks; ++rank) {
        MemoryAccount lasting, received, activations;
        JobModel model = job_model(plan, data);
        const TrainSetup setup = job_setup(plan, model);
        ColumnShare share(setup, 0, at::kCPU);
        ASSERT_TRUE(share.build(plan.placement().stages_of(rank), {lasting, received, activations},
                                &plan.training_programs[static_cast<std::size_t>(rank)]));
        share.begin_round(0, 0);
        const RankMemory& memory = plan.memory[static_cast<std::size_t>(rank)];
        EXPECT_EQ(lasting.live() + received.live(), memory.lasting())
            << "expert " << expert << " tied " << tied << " rank " << rank;
        EXPECT_EQ(activations.live(), 0);
      }
    }
  }
}

// To the byte where nothing is cut, and within a twentieth where stages are whole for a while:
// gradients go when their scatter is issued, which may be before the plan can prove that it was.
TEST_F(MemoryPlan, ShardedReplicasHoldWhatWasPlanned) {
  std::vector<JobConfig> jobs;
  const auto add = [&](const char* schedule, int replicas, int expert, const auto& change) {
    JobConfig one = job(schedule, expert);
    one.parallel.data = replicas;
    one.run.batch_size *= replicas;
    one.run.steps = 2;
    change(one);
    for (const std::string_view mode : kShardModeNames) {
      jobs.push_back(one);
      jobs.back().parallel.shard = mode;
    }
  };
  const auto as_it_is = [](JobConfig&) {};
  add("1f1b", 2, 0, as_it_is);
  add("zbv", 3, 0, [](JobConfig& one) { one.model.tie_word_embeddings = true; });
  add("interleaved-1f1b", 2, 2, as_it_is);
  add("dualpipe-v", 2, 0, [](JobConfig& one) {
    one.run.dtype = "bfloat16";
    one.model.tie_word_embeddings = true;
  });
  add("dualpipe-v", 2, 0, [](JobConfig& one) {
    one.optimizer.accumulate = 2;
    one.run.batch_size *= 2;
  });
  for (const JobConfig& one : jobs) {
    SCOPED_TRACE(print_job_config(one));
    const JobPlan plan = make_plan(one).value();
    const std::vector<double> found = needed_state(plan);
    for (std::size_t place = 0; place < found.size(); ++place) {
      EXPECT_LE(found[place], 1.0) << place;
      EXPECT_GE(found[place], one.parallel.shard == "none" ? 1.0 : 0.95) << place;
    }
  }
}

// Four replicas: each keeps a fourth of what is cut.
TEST_F(MemoryPlan, EachModeSavesWhatItSays) {
  JobConfig one = job("1f1b", 0);
  one.parallel.data = 4;
  one.run.batch_size *= 4;
  const auto memory = [&](const char* mode) {
    one.parallel.shard = mode;
    return make_plan(one).value().memory[0];
  };
  const RankMemory none = memory("none"), optimizer = memory("optimizer"),
                   gradients = memory("gradients"), parameters = memory("parameters");
  const auto share = [](Bytes cut, Bytes whole) {
    return static_cast<double>(cut) / static_cast<double>(whole);
  };
  EXPECT_EQ(none.whole, 0);
  EXPECT_EQ(optimizer.weights, none.weights);
  EXPECT_EQ(optimizer.gradients, none.gradients);
  EXPECT_EQ(optimizer.whole, 0);
  EXPECT_NEAR(share(optimizer.optimizer, none.optimizer), 0.25, 0.01);
  EXPECT_EQ(gradients.optimizer, optimizer.optimizer);
  EXPECT_NEAR(share(gradients.gradients, none.gradients), 0.25, 0.01);
  EXPECT_EQ(gradients.whole, none.gradients);  // the rank's one stage
  EXPECT_EQ(parameters.gradients, gradients.gradients);
  EXPECT_LT(share(parameters.weights, none.weights), 0.3);  // with a table of positions, whole
  EXPECT_GT(parameters.whole, gradients.whole);
}

TEST_F(MemoryPlan, ReplicasWithoutAChunkAreRefused) {
  JobConfig one = job("1f1b", 0);
  one.parallel.layers_per_stage = {6, 0};  // rank 1 has the last norm and the head alone
  one.model.vocab_size = 128;
  one.parallel.data = 300;
  one.run.batch_size *= 300;
  one.parallel.shard = "optimizer";
  const auto refused = make_plan(one);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidInput);
  // The norm's 32 numbers are a chunk, the head's 128 * 32 are 64 chunks of 64.
  EXPECT_THAT(refused.error().text(),
              ::testing::MatchesRegex(
                  "parallel.shard: replica [0-9]+ of 300 would own nothing of rank 1: 4128 numbers "
                  "in 65 chunks are shared out, needed a chunk for each"));
}

TEST_F(MemoryPlan, SharingOutWithoutReplicasIsNoted) {
  JobConfig one = job("1f1b", 0);
  one.parallel.shard = "parameters";
  const JobPlan plan = make_plan(one).value();
  EXPECT_EQ(plan.memory[0].whole, 0);
  EXPECT_EQ(plan.notes, (std::vector<std::string>{
                            "parallel.shard is 'parameters', and nothing is shared out: data and "
                            "expert are 1, so there are no replicas"}));
}

TEST_F(MemoryPlan, ALimitIsHeldAgainstTheRankThatNeedsMost) {
  JobConfig one = job("1f1b", 2);
  const JobPlan plan = make_plan(one).value();
  const Bytes most = std::max(plan.memory[0].total(), plan.memory[1].total());
  one.parallel.memory_limit_bytes = most;
  EXPECT_TRUE(make_plan(one));
  one.parallel.memory_limit_bytes = most - 1;
  const auto refused = make_plan(one);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidInput);
  const bool first = plan.memory[0].total() == most;
  EXPECT_EQ(refused.error().text(),
            fmt::format("parallel.memory_limit_bytes: each of ranks {} needs up to {} bytes, "
                        "memory_limit_bytes is {}",
                        first ? "0 to 1" : "2 to 3", most, most - 1));
}

TEST_F(MemoryPlan, ABoundOnRowsMakesItSmaller) {
  JobConfig one = job("dualpipe-v", 2);
  const Bytes worst = make_plan(one).value().memory[0].activations.value();
  one.parallel.token_bound = 1.5;
  const Bytes bounded = make_plan(one).value().memory[0].activations.value();
  one.parallel.token_bound = 2.0;
  EXPECT_LT(bounded, worst);
  EXPECT_EQ(make_plan(one).value().memory[0].activations, worst);
}

// Eight experts, two a token, 10 tokens: 20 rows are the even share.
TEST(MostRows, AreThoseThatGoToDifferentExperts) {
  ModelConfig model;
  EXPECT_EQ(most_rows(model, 1, 10, 0), 0);
  model.n_routed_experts = 8;
  model.num_experts_per_tok = 2;
  EXPECT_EQ(most_rows(model, 1, 10, 0), 20);
  EXPECT_EQ(most_rows(model, 1, 10, 1.0), 20);
  EXPECT_EQ(most_rows(model, 4, 10, 0), 80);
  EXPECT_EQ(most_rows(model, 8, 10, 0), 80);  // one expert here: one copy of a token
  EXPECT_EQ(most_rows(model, 4, 10, 1.23), 24);
  EXPECT_EQ(most_rows(model, 4, 10, 9), 80);
}

}  // namespace
}  // namespace plait
