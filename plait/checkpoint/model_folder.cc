#include "plait/checkpoint/model_folder.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "plait/base/read_file.h"
#include "plait/base/write_file.h"
#include "plait/checkpoint/hf_config.h"
#include "plait/checkpoint/safetensors.h"
#include "plait/model/names.h"
#include "plait/nn/model.h"

namespace plait {

namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";
constexpr const char* kModel = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

tl::unexpected<Error> invalid(const std::string& path, const std::string& message) {
  return fail(ErrorCode::kInvalidInput, message, path);
}

std::string in_folder(const std::string& folder, const std::string& file) {
  return (fs::path(folder) / file).string();
}

/// Of everything in the model's file.
Shapes tensor_shapes(const ModelConfig& model) {
  Shapes shapes = parameter_shapes(model);
  shapes.merge(buffer_shapes(model));
  return shapes;
}

/// The shards of a folder, and which of them holds each tensor.
struct Shards {
  std::vector<SafetensorsFile> files;
  std::map<std::string, std::size_t> holder;
};

Expected<void> add_shard(Shards& shards, const std::string& path) {
  PLAIT_TRY(SafetensorsFile file, SafetensorsFile::open(path));
  for (const auto& [name, entry] : file.entries()) {
    if (!shards.holder.emplace(name, shards.files.size()).second) {
      return invalid(path, fmt::format("tensor {} is in two shards", name));
    }
  }
  shards.files.push_back(std::move(file));
  return {};
}

/// The files that an index names, each once.
Expected<std::set<std::string>> files_of(const std::string& index, const Json& map) {
  std::set<std::string> files;
  for (const auto& [name, file] : map.items()) {
    if (!file.is_string() || file.get<std::string>().find('/') != std::string::npos) {
      return invalid(index, fmt::format("tensor {} must name a file of this folder", name));
    }
    files.insert(file.get<std::string>());
  }
  return files;
}

tl::unexpected<Error> no_tensors(const std::string& folder) {
  std::string found = "neither";
  for (const char* other : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (fs::exists(in_folder(folder, other))) found = std::string(other) + ", which is not read";
  }
  return invalid(folder, fmt::format("needs {} or {}, found {}", kModel, kIndex, found));
}

Expected<Shards> open_shards(const std::string& folder) {
  Shards shards;
  const std::string index = in_folder(folder, kIndex);
  if (fs::exists(in_folder(folder, kModel))) {
    PLAIT_TRY_VOID(add_shard(shards, in_folder(folder, kModel)));
    return shards;
  }
  if (!fs::exists(index)) return no_tensors(folder);
  PLAIT_TRY(const std::string text, read_file(index, "model's"));
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object()) return invalid(index, "weight_map is missing");
  PLAIT_TRY(const std::set<std::string> files, files_of(index, *map));
  for (const std::string& file : files) {
    if (!fs::exists(in_folder(folder, file))) {
      return invalid(folder, fmt::format("shard {} is missing, needed by {}", file, kIndex));
    }
    PLAIT_TRY_VOID(add_shard(shards, in_folder(folder, file)));
  }
  for (const auto& [name, file] : map->items()) {
    const auto holder = shards.holder.find(name);
    const std::string path = in_folder(folder, file.get<std::string>());
    if (holder == shards.holder.end() || shards.files[holder->second].path() != path) {
      return invalid(index, fmt::format("tensor {} is not in {}", name, path));
    }
  }
  return shards;
}

/// Every tensor that the model needs is there, in its shape and of a dtype that can be read.
Expected<void> check_needed(const std::string& folder, const Shapes& needed, const Shards& shards) {
  for (const auto& [name, shape] : needed) {
    const auto holder = shards.holder.find(name);
    if (holder == shards.holder.end()) {
      return invalid(folder,
                     fmt::format("tensor {} is missing, needs [{}]", name, fmt::join(shape, ", ")));
    }
    const SafetensorsFile& file = shards.files[holder->second];
    const auto& found = file.entries().at(name).shape;
    if (found != shape) {
      return invalid(file.path(), fmt::format("tensor {} is [{}], needs [{}]", name,
                                              fmt::join(found, ", "), fmt::join(shape, ", ")));
    }
    PLAIT_TRY_VOID(file.check_dtype(name));
  }
  return {};
}

/// What transformers leave out too.
class Skipped {
 public:
  Skipped(const ModelConfig& model, int prediction_layers)
      : first_(model.num_hidden_layers), end_(first_ + prediction_layers) {}

  bool take(const std::string& name) {
    const std::optional<int> layer = layer_of(name);
    if (layer && *layer >= first_ && *layer < end_) return ++predicting_ > 0;
    if (name.find("rotary_emb.") == std::string::npos) return false;
    if (buffers_++ == 0) buffer_ = name;
    return true;
  }
  std::vector<std::string> notes() const {
    std::vector<std::string> notes;
    if (buffers_ > 0) {
      notes.push_back(fmt::format("{} {} skipped, rotary positions are computed: {}{}", buffers_,
                                  buffers_ == 1 ? "buffer is" : "buffers are", buffer_,
                                  buffers_ == 1 ? "" : ", …"));
    }
    if (predicting_ > 0) {
      const int layers = end_ - first_;
      notes.push_back(fmt::format(
          "{} skipped ({} tensors): {} multi-token prediction behind num_hidden_layers {}",
          layers == 1 ? fmt::format("layer {} is", first_)
                      : fmt::format("layers {}-{} are", first_, end_ - 1),
          predicting_, layers == 1 ? "it is" : "they are", first_));
    }
    return notes;
  }

 private:
  int first_, end_;
  int buffers_ = 0, predicting_ = 0;
  std::string buffer_;
};

/// A tied model's file may hold the table a second time.
Expected<void> check_tied_head(const Shards& shards) {
  const auto head = shards.holder.find(kHeadName);
  if (head == shards.holder.end()) return {};
  const SafetensorsFile& file = shards.files[head->second];
  PLAIT_TRY_VOID(file.check_dtype(kHeadName));
  PLAIT_TRY(const at::Tensor table, file.read(kHeadName));
  PLAIT_TRY(const at::Tensor embedding,
            shards.files[shards.holder.at(kEmbeddingName)].read(kEmbeddingName));
  if (at::equal(table, embedding)) return {};
  return invalid(
      file.path(),
      fmt::format("tie_word_embeddings is true, but {} differs from {}; needed one table, "
                  "or tie_word_embeddings false in config.json",
                  kHeadName, kEmbeddingName));
}

/// A folder's shards that hold the model, and what of them is skipped.
struct OpenFolder {
  Shards shards;
  std::vector<std::string> notes;
};

Expected<OpenFolder> open_folder(const std::string& folder, const ModelConfig& model) {
  PLAIT_TRY(const FolderConfig config, read_folder_config(folder, model));
  PLAIT_TRY_VOID(check_same_model(in_folder(folder, kConfig), config.model, model));
  OpenFolder open;
  PLAIT_TRY(open.shards, open_shards(folder));
  const Shapes needed = tensor_shapes(model);
  PLAIT_TRY_VOID(check_needed(folder, needed, open.shards));
  Skipped skipped(model, config.prediction_layers);
  for (const auto& [name, holder] : open.shards.holder) {
    if (needed.contains(name) || (model.tie_word_embeddings && name == kHeadName)) continue;
    if (skipped.take(name)) continue;
    return invalid(open.shards.files[holder].path(),
                   fmt::format("tensor {} is not one of this model's", name));
  }
  if (model.tie_word_embeddings) PLAIT_TRY_VOID(check_tied_head(open.shards));
  open.notes = skipped.notes();
  return open;
}

/// The job named the folder: a file of it that cannot be read is wrong input.
template <typename Result>
Expected<Result> as_input(Expected<Result> result) {
  if (!result && result.error().code == ErrorCode::kIo)
    result.error().code = ErrorCode::kInvalidInput;
  return result;
}

}  // namespace

Expected<ModelConfig> read_model_config(const std::string& folder, const ModelConfig& job) {
  PLAIT_TRY(FolderConfig config, as_input(read_folder_config(folder, job)));
  return std::move(config.model);
}

Expected<ModelConfig> read_model_config(const std::string& folder) {
  const ModelConfig none;
  return read_model_config(folder, none);
}

Expected<std::vector<std::string>> check_model_folder(const std::string& folder,
                                                      const ModelConfig& model) {
  PLAIT_TRY(OpenFolder open, as_input(open_folder(folder, model)));
  return std::move(open.notes);
}

Expected<void> load_parameters(const std::string& folder, const ModelConfig& model,
                               ParameterStore& store) {
  PLAIT_TRY(const OpenFolder open, as_input(open_folder(folder, model)));
  for (const Parameter& parameter : store.tensors()) {
    const SafetensorsFile& file = open.shards.files[open.shards.holder.at(parameter.name)];
    PLAIT_TRY(const at::Tensor loaded, as_input(file.read(parameter.name)));
    parameter.tensor.detach().copy_(loaded);
  }
  return {};
}

Expected<LanguageModel> load_language_model(const std::string& folder, std::int64_t max_sequence,
                                            std::vector<std::string>* notes) {
  PLAIT_TRY(const ModelConfig model, read_model_config(folder));
  PLAIT_TRY(std::vector<std::string> found, check_model_folder(folder, model));
  if (notes != nullptr) *notes = std::move(found);
  constexpr std::uint64_t kSeed = 0;  // every number is overwritten
  PLAIT_TRY(LanguageModel result, LanguageModel::make(model, kSeed, max_sequence));
  PLAIT_TRY_VOID(load_parameters(folder, model, result.store()));
  return result;
}

ModelFolderSink::ModelFolderSink(std::string folder, ModelConfig model, std::int64_t max_sequence)
    : folder_(std::move(folder)),
      model_(std::move(model)),
      max_sequence_(max_sequence),
      tensors_(in_folder(folder_, kModel), {{"format", "pt"}}) {}

Expected<void> ModelFolderSink::begin(const std::vector<TensorInfo>& tensors) {
  auto needed = tensor_shapes(model_);
  for (const TensorInfo& tensor : tensors) {
    const auto found = needed.find(tensor.name);
    if (found == needed.end() || found->second != tensor.shape) {
      return invalid(folder_, fmt::format("tensor {} [{}] is not one of this model's", tensor.name,
                                          fmt::join(tensor.shape, ", ")));
    }
    needed.erase(found);
  }
  if (!needed.empty()) {
    return invalid(folder_, fmt::format("tensor {} is missing", needed.begin()->first));
  }
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) return fail(ErrorCode::kIo, "cannot make the folder: " + error.message(), folder_);
  return tensors_.begin(tensors);
}

Expected<void> ModelFolderSink::end() {
  PLAIT_TRY_VOID(tensors_.end());
  return write_file_atomically(in_folder(folder_, kConfig),
                               print_folder_config(model_, max_sequence_));
}

Expected<void> write_model_folder(const std::string& folder, const ModelConfig& model,
                                  std::int64_t max_sequence,
                                  const std::vector<Parameter>& tensors) {
  ModelFolderSink sink(folder, model, max_sequence);
  return write_tensors(sink, tensors);
}

}  // namespace plait
