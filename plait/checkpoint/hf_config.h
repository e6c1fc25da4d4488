/// config.json as Hugging Face's transformers keep it, read and written through the tables of
/// model/architectures.h and model/model_keys.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "plait/base/error.h"
#include "plait/model/model_config.h"

namespace plait {

struct FolderConfig {
  ModelConfig model;
  /// Layers behind the model's that predict further tokens: transformers skip them, so do we.
  int prediction_layers = 0;
};

/// What the config.json of `folder` says. `init` of the model is `folder`; keys that no file holds
/// are those of `job`. Errors (kInvalidInput, kNotBuilt) name file and key, what was found and what
/// was needed: another architecture, a key whose value is not built, numbers that do not fit.
Expected<FolderConfig> read_folder_config(const std::string& folder, const ModelConfig& job);

/// An error (kInvalidInput) that names the first key in which the folder's model is not the job's.
Expected<void> check_same_model(const std::string& path, const ModelConfig& folder,
                                const ModelConfig& job);

/// That keys which the job gave beside model.init say what the folder's files do. `job` as it was
/// read, `given` where its keys were written, by "model.<key>". Errors (kInvalidInput), there: the
/// first key that is another in the folder, with both values.
Expected<void> check_given_keys(const ModelConfig& folder, const ModelConfig& job,
                                const std::map<std::string, std::string>& given);

/// The text of a config.json. `max_sequence` becomes max_position_embeddings.
std::string print_folder_config(const ModelConfig& model, std::int64_t max_sequence);

}  // namespace plait
