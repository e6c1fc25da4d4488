/// A language model as segments, made from their descriptions (model/architectures.h): embedding;
/// per layer attention and SwiGLU or a mixture of experts; head (final norm, projection, mean
/// cross-entropy over the micro-batch's tokens). docs/model.md has the formulas.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/model/dtypes.h"
#include "plait/model/model_config.h"
#include "plait/model/names.h"
#include "plait/model/partition.h"
#include "plait/nn/batch.h"
#include "plait/nn/parameter_store.h"
#include "plait/nn/router_loads.h"
#include "plait/program/grid.h"
#include "plait/torch/segment.h"

namespace plait {

using Shapes = std::map<std::string, std::vector<std::int64_t>>;

/// Every parameter of the model, those of all experts; without lm_head.weight if embeddings are
/// tied.
Shapes parameter_shapes(const ModelConfig& model);
/// What is in the model's file beside parameters: the routers' biases.
Shapes buffer_shapes(const ModelConfig& model);

/// The segments of one stage, in order, on the device of `store`. Parameters and buffers go into
/// it, of the routed experts those of `place`: of n, n / members from member * n / members on. They
/// are initialised from (seed, name): normal(0, 0.02), output projections of the residual divided
/// by sqrt(2 * layers), norms 1, biases 0. Call it for a rank's stages in ascending order: a tied
/// head takes an alias of the embedding in `store`. `max_sequence`: longest sequence, for the
/// rotary table. `loads`: where routers record their loads; null: nowhere. `batch` says what
/// dropout draws from. `token_bound`: of dispatches (nn/mixture.h). `compute`: of hidden states.
/// Errors (kInvalidInput): shapes that do not divide; a tied head whose embedding is not in
/// `store`; experts that cannot be spread over the members of `place`.
Expected<std::vector<std::shared_ptr<Segment>>> make_model_segments(
    const ModelConfig& model, const StagePart& part, std::shared_ptr<BatchSlot> batch,
    std::uint64_t seed, std::int64_t max_sequence, ParameterStore& store, GroupPlace place = {},
    const std::shared_ptr<RouterLoads>& loads = nullptr, double token_bound = 0,
    Dtype compute = kDtypes.compute);

/// All segments in one process, for sampling and comparison. Not for training.
class LanguageModel {
 public:
  /// Weights from the seed.
  static Expected<LanguageModel> make(const ModelConfig& model, std::uint64_t seed,
                                      std::int64_t max_sequence);

  /// `tokens` int64 [sequences, length] to logits float32 [sequences, length, vocab]. Errors: a
  /// token outside the vocabulary, a sequence longer than max_sequence.
  Expected<at::Tensor> logits(const at::Tensor& tokens);

  const ModelConfig& config() const { return config_; }
  ParameterStore& store() { return *store_; }

 private:
  LanguageModel() = default;
  ModelConfig config_;
  std::shared_ptr<BatchSlot> batch_;
  std::unique_ptr<ParameterStore> store_;
  std::vector<std::shared_ptr<Segment>> segments_;
};

}  // namespace plait
