/// Small jobs for tests that train.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "plait/job/job_config.h"

namespace plait::testing {

/// A folder of its own with a text to train on.
class JobTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const ::testing::TestInfo* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = (std::filesystem::temp_directory_path() /
               ("plait_" + std::string(info->name()) + "_" + std::to_string(getpid())))
                  .string();
    std::filesystem::create_directories(folder_);
    std::ofstream text(folder_ + "/text");
    for (int i = 0; i < 20000; ++i) text << static_cast<char>(32 + (i * i + i / 7) % 90);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  /// Two ranks a column, four micro-batches; a mixture of experts whose bias is balanced, dropout.
  JobConfig mixture_job(int data, int expert) const {
    JobConfig job;
    job.name = "small";
    job.model.architecture = "deepseek-v3";
    job.model.hidden_size = 32;
    job.model.intermediate_size = 48;
    job.model.num_hidden_layers = 6;
    job.model.num_attention_heads = 4;
    job.model.num_key_value_heads = 2;
    job.model.n_routed_experts = 4;
    job.model.n_shared_experts = 1;
    job.model.num_experts_per_tok = 2;
    job.model.moe_intermediate_size = 24;
    job.model.first_k_dense_replace = 1;
    job.model.bias_update_speed = 0.01;
    job.model.hidden_dropout = 0.1;
    job.data.train = folder_ + "/text";
    job.data.sequence_length = 16;
    job.data.validation_share = 0.02;
    job.parallel.pipeline = 2;
    job.parallel.data = data;
    job.parallel.expert = expert;
    job.parallel.microbatches = 4;
    job.parallel.pairs = "braid";
    job.run.batch_size = 4 * data * expert;
    job.run.steps = 8;
    return job;
  }

  std::string folder_;
};

}  // namespace plait::testing
