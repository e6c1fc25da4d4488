/// The Llama shape as segments: embedding; per layer attn and mlp, residual inside; head (final
/// norm, projection, mean cross-entropy over the micro-batch's tokens).
///
/// Names and shapes of parameters are those of Hugging Face's LlamaForCausalLM, whatever the split.
/// Hidden states are float32 [sequences, length, hidden]. docs/model.md has the formulas.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/config/job_config.h"
#include "plait/nn/batch.h"
#include "plait/nn/parameter_store.h"
#include "plait/nn/partition.h"
#include "plait/runtime/torch/segment.h"

namespace plait {

/// Name to shape of every parameter of the model; without lm_head.weight if embeddings are tied.
std::map<std::string, std::vector<std::int64_t>> llama_parameter_shapes(const ModelConfig& model);

/// The segments of one stage, in order. Parameters go into `store`, initialised from (seed, name):
/// normal(0, 0.02), output projections of the residual divided by sqrt(2 * layers), norms 1. Call
/// it for a rank's stages in ascending order: a tied head takes an alias of the embedding in
/// `store`. `max_sequence`: longest sequence, for the rotary table.
/// Errors (kInvalidInput): shapes that do not divide; a tied head whose embedding is not in
/// `store`.
Expected<std::vector<std::shared_ptr<Segment>>> make_llama_segments(
    const ModelConfig& model, const StagePart& part, std::shared_ptr<BatchSlot> batch,
    std::uint64_t seed, std::int64_t max_sequence, ParameterStore& store);

/// All segments in one process, for sampling and comparison. Not for training.
class LlamaModel {
 public:
  /// Weights from the seed.
  static Expected<LlamaModel> make(const ModelConfig& model, std::uint64_t seed,
                                   std::int64_t max_sequence);
  /// Weights from a model folder (nn/model_folder.h), ours or Hugging Face's.
  static Expected<LlamaModel> load(const std::string& folder, std::int64_t max_sequence);

  /// `tokens` int64 [sequences, length] to logits float32 [sequences, length, vocab]. Errors: a
  /// token outside the vocabulary, a sequence longer than max_sequence.
  Expected<at::Tensor> logits(const at::Tensor& tokens);

  const ModelConfig& config() const { return config_; }
  ParameterStore& parameters() { return *store_; }

 private:
  LlamaModel() = default;
  ModelConfig config_;
  std::int64_t max_sequence_ = 0;
  std::shared_ptr<BatchSlot> batch_;
  std::unique_ptr<ParameterStore> store_;
  std::vector<std::shared_ptr<Segment>> segments_;
};

}  // namespace plait
