/// A model on disk as Hugging Face's transformers keep it: config.json beside model.safetensors
/// (or shards with model.safetensors.index.json, read only).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/checkpoint/safetensors.h"
#include "plait/model/model_config.h"
#include "plait/nn/model.h"
#include "plait/nn/parameter_store.h"
#include "plait/saved/tensor_sink.h"
#include "plait/torch/segment.h"

namespace plait {

/// The model of the folder's config.json (checkpoint/hf_config.h).
Expected<ModelConfig> read_model_config(const std::string& folder, const ModelConfig& job);
Expected<ModelConfig> read_model_config(const std::string& folder);

/// Whether the folder holds `model`: the same config.json, and exactly its tensors in their shapes,
/// of a dtype that can be read. The result has a note for each kind of tensor that is skipped, as
/// transformers skip it: buffers that are computed anew, and layers that predict further tokens.
/// A tied model may have an lm_head.weight that equals the embedding. Errors (kInvalidInput,
/// kNotBuilt) name file and tensor, what was found and what was needed. Reads headers only, and
/// both tables of a tied model that has two.
Expected<std::vector<std::string>> check_model_folder(const std::string& folder,
                                                      const ModelConfig& model);

/// Loads the parameters and buffers that `store` holds; others of the model are left in the file.
/// Errors: those of check_model_folder(); `store` may then be half filled.
Expected<void> load_parameters(const std::string& folder, const ModelConfig& model,
                               ParameterStore& store);

/// A whole model in one process, with the folder's weights. `notes`: of check_model_folder().
Expected<LanguageModel> load_language_model(const std::string& folder, std::int64_t max_sequence,
                                            std::vector<std::string>* notes = nullptr);

/// Writes model.safetensors tensor by tensor, then config.json; makes the folder. Errors: begin()
/// names a tensor that is not the model's (kInvalidInput) or is missing; kIo.
class ModelFolderSink final : public TensorSink {
 public:
  ModelFolderSink(std::string folder, ModelConfig model, std::int64_t max_sequence);
  Expected<void> begin(const std::vector<TensorInfo>& tensors) override;
  Expected<void> write(std::span<const std::byte> bytes) override { return tensors_.write(bytes); }
  Expected<void> end() override;

 private:
  std::string folder_;
  ModelConfig model_;
  std::int64_t max_sequence_;
  SafetensorsSink tensors_;
};

/// Writes model.safetensors and config.json; makes the folder. `tensors` must be all of the model's
/// parameters and buffers, in any order. `max_sequence` becomes max_position_embeddings.
Expected<void> write_model_folder(const std::string& folder, const ModelConfig& model,
                                  std::int64_t max_sequence, const std::vector<Parameter>& tensors);

}  // namespace plait
