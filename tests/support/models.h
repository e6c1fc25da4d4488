/// Small models for tests, cut into stages and trained for a step without a runtime.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "plait/nn/model.h"
#include "plait/torch/torch_stage.h"
#include "tests/support/segments.h"

namespace plait {

constexpr std::int64_t kLength = 12, kMaxSequence = 16;
constexpr int kMicrobatches = 3;

inline ModelConfig small_model(bool tied) {
  ModelConfig model;
  model.vocab_size = 40;
  model.hidden_size = 32;
  model.intermediate_size = 48;
  model.num_hidden_layers = 4;
  model.num_attention_heads = 4;
  model.num_key_value_heads = 2;
  model.tie_word_embeddings = tied;
  return model;
}

/// A dense layer and three mixtures of 6 experts, 2 a token, and 2 shared ones.
inline ModelConfig small_mixture() {
  ModelConfig model = small_model(false);
  model.architecture = "deepseek-v3";
  model.n_routed_experts = 6;
  model.n_shared_experts = 2;
  model.num_experts_per_tok = 2;
  model.moe_intermediate_size = 24;
  model.first_k_dense_replace = 1;
  model.routed_scaling_factor = 1.5;
  return model;
}

inline Batch make_batch(const ModelConfig& model) {
  Batch batch;
  for (std::int64_t mb = 0; mb < kMicrobatches; ++mb) {
    const at::Tensor tokens = (at::arange(2 * kLength, at::kLong) * 7 + mb * 3) % model.vocab_size;
    batch.tokens.push_back(tokens.view({2, kLength}));
    batch.targets.push_back(((tokens * 5 + 1) % model.vocab_size).view({2, kLength}));
  }
  return batch;
}

/// A model cut into stages, its ranks being one store each.
struct Cut {
  std::shared_ptr<BatchSlot> slot = std::make_shared<BatchSlot>();
  std::shared_ptr<LossSink> losses = std::make_shared<LossSink>();
  std::shared_ptr<RouterLoads> loads = std::make_shared<RouterLoads>();
  std::vector<std::unique_ptr<ParameterStore>> stores;
  std::vector<std::unique_ptr<TorchStage>> stages;
};

/// rank_of_stage: which store each stage uses.
inline Cut cut_model(const ModelConfig& model, const std::vector<int>& layers_per_stage,
                     const std::vector<std::size_t>& rank_of_stage, at::Device device = at::kCPU) {
  Cut cut;
  cut.slot->batch = make_batch(model);
  for (at::Tensor& tokens : cut.slot->batch.tokens) tokens = tokens.to(device);
  for (at::Tensor& targets : cut.slot->batch.targets) targets = targets.to(device);
  cut.losses->reset(kMicrobatches);
  cut.loads->reset(kMicrobatches);
  const auto parts =
      partition_layers(model, static_cast<int>(layers_per_stage.size()), kLength, layers_per_stage)
          .value();
  for (std::size_t s = 0; s < parts.size(); ++s) {
    while (cut.stores.size() <= rank_of_stage[s]) {
      cut.stores.push_back(std::make_unique<ParameterStore>(device));
    }
    ParameterStore& store = *cut.stores[rank_of_stage[s]];
    auto segments =
        make_model_segments(model, parts[s], cut.slot, 5, kMaxSequence, store, {}, cut.loads)
            .value();
    cut.stages.push_back(
        std::make_unique<TorchStage>(std::move(segments), parts[s].head ? cut.losses : nullptr));
  }
  for (const auto& store : cut.stores) store->allocate_gradients();
  return cut;
}

inline void train_step(Cut& cut, bool split) {
  for (int mb = 0; mb < kMicrobatches; ++mb) {
    Value value;
    std::vector<Value> saved;
    for (const auto& stage : cut.stages) {
      ForwardResult result = stage->forward({0, mb}, std::move(value), true).value();
      value = std::move(result.output);
      saved.push_back(std::move(result.saved));
    }
    for (std::size_t s = cut.stages.size(); s-- > 0;) {
      TorchStage& stage = *cut.stages[s];
      if (!split) {
        value = stage.backward({0, mb}, std::move(saved[s]), std::move(value)).value();
        continue;
      }
      auto input = stage.backward_input({0, mb}, std::move(saved[s]), std::move(value)).value();
      EXPECT_FALSE(input.whole);
      value = std::move(input.input_gradient);
      ASSERT_TRUE(stage.backward_weight({0, mb}, std::move(input.saved_for_weight)));
    }
  }
  for (const auto& store : cut.stores) store->add_alias_gradients();
  ASSERT_TRUE(cut.losses->read());
}

inline std::map<std::string, at::Tensor> gradients_of(const Cut& cut) {
  std::map<std::string, at::Tensor> gradients;
  for (const auto& store : cut.stores) {
    for (const Parameter& p : store->parameters()) gradients[p.name] = p.tensor.grad();
  }
  return gradients;
}

inline void expect_same_training(const Cut& a, const Cut& b) {
  EXPECT_EQ(a.losses->losses(), b.losses->losses());
  const auto left = gradients_of(a), right = gradients_of(b);
  ASSERT_EQ(left.size(), right.size());
  for (const auto& [name, gradient] : left) {
    EXPECT_TRUE(same_bits(gradient, right.at(name))) << name;
    EXPECT_GT(gradient.abs().sum().item<float>(), 0.0f) << name;
  }
}

}  // namespace plait
