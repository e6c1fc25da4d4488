/// A model on disk as Hugging Face's transformers keep it: config.json beside model.safetensors
/// (or shards with model.safetensors.index.json, read only).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/model/model_config.h"
#include "plait/nn/model.h"
#include "plait/nn/parameter_store.h"
#include "plait/torch/segment.h"

namespace plait {

/// config.json of a LlamaForCausalLM or a Glm4MoeForCausalLM, or our own of a mixture that scores
/// by softmax. `init` of the result is `folder`; dropout and how routers are balanced are `job`'s,
/// no file holds them. Errors (kInvalidInput, kNotBuilt) name file and key: another architecture,
/// biases, scaled rotary positions, groups of experts, ….
Expected<ModelConfig> read_model_config(const std::string& folder, const ModelConfig& job = {});

/// Loads the parameters and buffers that `store` holds; others of the model are left in the file.
/// The folder must hold exactly the tensors of `model` in their shapes (lm_head.weight may be there
/// or not if embeddings are tied), else an error (kInvalidInput) names the tensor, what was found
/// and what was needed. `store` is then half filled.
Expected<void> load_parameters(const std::string& folder, const ModelConfig& model,
                               ParameterStore& store);

/// A whole model in one process, with the folder's weights.
Expected<LanguageModel> load_language_model(const std::string& folder, std::int64_t max_sequence);

/// Writes model.safetensors and config.json; makes the folder. `tensors` must be all of the model's
/// parameters and buffers, in any order. `max_sequence` becomes max_position_embeddings.
Expected<void> write_model_folder(const std::string& folder, const ModelConfig& model,
                                  std::int64_t max_sequence, const std::vector<Parameter>& tensors);

}  // namespace plait
