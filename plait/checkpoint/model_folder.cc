#include "plait/checkpoint/model_folder.h"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "plait/base/write_file.h"
#include "plait/checkpoint/safetensors.h"
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

Expected<Json> read_json(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return fail(ErrorCode::kIo, "cannot read the file", path);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return invalid(path, "is not a JSON object");
  return json;
}

/// Reads keys of a config.json; remembers the first error, so that keys read as a list.
class ConfigReader {
 public:
  ConfigReader(std::string path, const Json& json) : path_(std::move(path)), json_(json) {}

  template <typename Integer>
  void integer(const char* key, Integer& value, bool required = true, Integer least = 1) {
    const Json* found = find(key, required);
    if (found == nullptr) return;
    if (!found->is_number_integer() || found->get<std::int64_t>() < least ||
        found->get<std::int64_t>() > std::numeric_limits<Integer>::max()) {
      return wrong(key, *found, fmt::format("a number of at least {}", least));
    }
    value = static_cast<Integer>(found->get<std::int64_t>());
  }
  std::string text(const char* key) {
    const Json* found = find(key, false);
    if (found == nullptr) return {};
    if (!found->is_string()) wrong(key, *found, "a string");
    return found->is_string() ? found->get<std::string>() : "";
  }
  void number(const char* key, double& value) {
    const Json* found = find(key, false);
    if (found == nullptr) return;
    if (!found->is_number() || found->get<double>() <= 0.0) {
      return wrong(key, *found, "a number above 0");
    }
    value = found->get<double>();
  }
  void flag(const char* key, bool& value) {
    const Json* found = find(key, false);
    if (found == nullptr) return;
    if (!found->is_boolean()) return wrong(key, *found, "true or false");
    value = found->get<bool>();
  }
  /// A key that may only have the value that this model has.
  void only(const char* key, const Json& needed) {
    const Json* found = find(key, false);
    if (found != nullptr && *found != needed) {
      if (!error_) {
        error_ = Error{
            ErrorCode::kNotBuilt,
            fmt::format("{} is {}, this version knows only {}", key, found->dump(), needed.dump()),
            path_};
      }
    }
  }
  /// transformers 5 keeps the base of the rotary positions in an object, earlier ones beside.
  /// `whole`: whether heads turn as a whole where no partial_rotary_factor is given.
  void rotary(double& theta, bool whole) {
    number("rope_theta", theta);
    only("rope_scaling", nullptr);
    only("partial_rotary_factor", 1.0);
    const Json* found = find("rope_parameters", false);
    const bool given = json_.contains("partial_rotary_factor") ||
                       (found != nullptr && found->contains("partial_rotary_factor"));
    if (!whole && !given && !error_) {
      error_ = Error{ErrorCode::kNotBuilt,
                     "partial_rotary_factor is missing, which means 0.5, this version knows only "
                     "1.0",
                     path_};
    }
    if (found == nullptr) return;
    if (!found->is_object()) return wrong("rope_parameters", *found, "an object");
    ConfigReader inner(path_, *found);
    inner.number("rope_theta", theta);
    inner.only("rope_type", "default");
    inner.only("partial_rotary_factor", 1.0);
    if (inner.error_ && !error_) error_ = std::move(inner.error_);
  }

  Expected<void> result() const {
    if (error_) return tl::unexpected<Error>(*error_);
    return {};
  }

 private:
  /// Null counts as not there.
  const Json* find(const char* key, bool required) {
    const auto found = json_.find(key);
    if (found != json_.end() && !found->is_null()) return &*found;
    if (required && !error_) {
      error_ = Error{ErrorCode::kInvalidInput, fmt::format("{} is missing", key), path_};
    }
    return nullptr;
  }
  void wrong(const char* key, const Json& found, const std::string& needed) {
    if (error_) return;
    error_ = Error{ErrorCode::kInvalidInput,
                   fmt::format("{} is {}, must be {}", key, found.dump(), needed), path_};
  }

  std::string path_;
  const Json& json_;
  std::optional<Error> error_;
};

/// Shapes do not tell heads, eps or theta apart: a folder of another model must not load quietly.
Expected<void> check_same_model(const std::string& folder, const ModelConfig& needed) {
  PLAIT_TRY(const ModelConfig found, read_model_config(folder));
  Expected<void> result;
  const auto compare = [&](const char* key, const auto& a, const auto& b) {
    if (result && a != b) {
      result =
          invalid(in_folder(folder, kConfig), fmt::format("{} is {}, the job needs {}", key, a, b));
    }
  };
  compare("architecture", found.architecture, needed.architecture);
  compare("vocab_size", found.vocab_size, needed.vocab_size);
  compare("hidden_size", found.hidden_size, needed.hidden_size);
  compare("intermediate_size", found.intermediate_size, needed.intermediate_size);
  compare("num_hidden_layers", found.num_hidden_layers, needed.num_hidden_layers);
  compare("num_attention_heads", found.num_attention_heads, needed.num_attention_heads);
  compare("num_key_value_heads", found.num_key_value_heads, needed.num_key_value_heads);
  compare("rms_norm_eps", found.rms_norm_eps, needed.rms_norm_eps);
  compare("rope_theta", found.rope_theta, needed.rope_theta);
  compare("tie_word_embeddings", found.tie_word_embeddings, needed.tie_word_embeddings);
  compare("n_routed_experts", found.n_routed_experts, needed.n_routed_experts);
  compare("n_shared_experts", found.n_shared_experts, needed.n_shared_experts);
  compare("num_experts_per_tok", found.num_experts_per_tok, needed.num_experts_per_tok);
  compare("moe_intermediate_size", found.moe_intermediate_size, needed.moe_intermediate_size);
  compare("first_k_dense_replace", found.first_k_dense_replace, needed.first_k_dense_replace);
  compare("scoring_func", found.scoring_func, needed.scoring_func);
  compare("routed_scaling_factor", found.routed_scaling_factor, needed.routed_scaling_factor);
  compare("norm_topk_prob", found.norm_topk_prob, needed.norm_topk_prob);
  return result;
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

Expected<Shards> open_shards(const std::string& folder) {
  Shards shards;
  const std::string index = in_folder(folder, kIndex);
  if (fs::exists(in_folder(folder, kModel)) || !fs::exists(index)) {
    PLAIT_TRY_VOID(add_shard(shards, in_folder(folder, kModel)));
    return shards;
  }
  PLAIT_TRY(const Json json, read_json(index));
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object()) return invalid(index, "weight_map is missing");
  std::set<std::string> files;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string() || file.get<std::string>().find('/') != std::string::npos) {
      return invalid(index, fmt::format("tensor {} must name a file of this folder", name));
    }
    files.insert(file.get<std::string>());
  }
  for (const std::string& file : files) {
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

Expected<void> check_tensors(const std::string& folder, const ModelConfig& model,
                             const Shards& shards) {
  const auto needed = tensor_shapes(model);
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
  }
  for (const auto& [name, holder] : shards.holder) {
    if (needed.contains(name) || (model.tie_word_embeddings && name == kHeadName)) continue;
    return invalid(shards.files[holder].path(),
                   fmt::format("tensor {} is not one of this model's", name));
  }
  return {};
}

/// How transformers call a model. They have no GQA model of this shape whose router scores by
/// softmax: such a folder gets a name that they refuse, as they would score by sigmoid.
struct Family {
  const char* model_type;
  const char* architecture;
};
constexpr Family kLlama = {"llama", "LlamaForCausalLM"};
constexpr Family kSigmoidMixture = {"glm4_moe", "Glm4MoeForCausalLM"};
constexpr Family kSoftmaxMixture = {"plait_softmax_moe", "PlaitSoftmaxMoeForCausalLM"};

Family family_of(const ModelConfig& model) {
  if (model.architecture == "llama") return kLlama;
  return model.scoring_func == "softmax" ? kSoftmaxMixture : kSigmoidMixture;
}

void add_mixture(Json& json, const ModelConfig& model) {
  json["n_routed_experts"] = model.n_routed_experts;
  json["n_shared_experts"] = model.n_shared_experts;
  json["num_experts_per_tok"] = model.num_experts_per_tok;
  json["moe_intermediate_size"] = model.moe_intermediate_size;
  json["first_k_dense_replace"] = model.first_k_dense_replace;
  json["scoring_func"] = model.scoring_func;
  json["routed_scaling_factor"] = model.routed_scaling_factor;
  json["norm_topk_prob"] = model.norm_topk_prob;
  json["n_group"] = 1;
  json["topk_group"] = 1;
  json["use_qk_norm"] = false;
  json["num_nextn_predict_layers"] = 0;
}

Json config_json(const ModelConfig& model, std::int64_t max_sequence) {
  const Family family = family_of(model);
  Json json;
  json["architectures"] = {family.architecture};
  json["model_type"] = family.model_type;
  json["vocab_size"] = model.vocab_size;
  json["hidden_size"] = model.hidden_size;
  json["intermediate_size"] = model.intermediate_size;
  json["num_hidden_layers"] = model.num_hidden_layers;
  json["num_attention_heads"] = model.num_attention_heads;
  json["num_key_value_heads"] = model.num_key_value_heads;
  json["head_dim"] = model.hidden_size / model.num_attention_heads;
  json["hidden_act"] = "silu";
  json["rms_norm_eps"] = model.rms_norm_eps;
  json["rope_theta"] = model.rope_theta;
  json["rope_parameters"] = {{"rope_theta", model.rope_theta}, {"rope_type", "default"}};
  json["max_position_embeddings"] = max_sequence;
  json["tie_word_embeddings"] = model.tie_word_embeddings;
  json["attention_bias"] = false;
  if (model.architecture == "llama") {
    json["mlp_bias"] = false;
  } else {
    json["rope_parameters"]["partial_rotary_factor"] = 1.0;
    add_mixture(json, model);
  }
  json["attention_dropout"] = 0.0;
  json["initializer_range"] = 0.02;
  json["bos_token_id"] = nullptr;
  json["eos_token_id"] = nullptr;
  json["use_cache"] = true;
  json["torch_dtype"] = "float32";
  return json;
}

void read_mixture(ConfigReader& reader, ModelConfig& model) {
  reader.integer("n_routed_experts", model.n_routed_experts);
  reader.integer("n_shared_experts", model.n_shared_experts, /*required=*/true, /*least=*/0);
  reader.integer("num_experts_per_tok", model.num_experts_per_tok);
  reader.integer("moe_intermediate_size", model.moe_intermediate_size);
  reader.integer("first_k_dense_replace", model.first_k_dense_replace, /*required=*/true,
                 /*least=*/0);
  reader.only("scoring_func", model.scoring_func);
  reader.number("routed_scaling_factor", model.routed_scaling_factor);
  reader.flag("norm_topk_prob", model.norm_topk_prob);
  reader.only("n_group", 1);
  reader.only("topk_group", 1);
  reader.only("use_qk_norm", false);
}

/// Which model a config.json is of; sets what follows from that alone.
Expected<Family> read_family(ConfigReader& reader, const std::string& path, ModelConfig& model) {
  const std::string type = reader.text("model_type");
  PLAIT_TRY_VOID(reader.result());
  if (type.empty() || type == kLlama.model_type) {
    model.architecture = "llama";
    model.rms_norm_eps = 1e-6;  // LlamaConfig's default
    return kLlama;
  }
  model.architecture = "deepseek-v3";
  model.rms_norm_eps = 1e-5;  // Glm4MoeConfig's
  for (const Family& family : {kSigmoidMixture, kSoftmaxMixture}) {
    if (type != family.model_type) continue;
    model.scoring_func = type == kSoftmaxMixture.model_type ? "softmax" : "sigmoid";
    return family;
  }
  return fail(
      ErrorCode::kNotBuilt,
      fmt::format("model_type is {}, this version knows only {}, {} and {}", type,
                  kLlama.model_type, kSigmoidMixture.model_type, kSoftmaxMixture.model_type),
      path);
}

}  // namespace

Expected<ModelConfig> read_model_config(const std::string& folder, const ModelConfig& job) {
  const std::string path = in_folder(folder, kConfig);
  PLAIT_TRY(const Json json, read_json(path));
  ConfigReader reader(path, json);
  ModelConfig model;
  model.init = folder;
  model.router_aux_loss_coef = job.router_aux_loss_coef;
  model.bias_update_speed = job.bias_update_speed;
  model.hidden_dropout = job.hidden_dropout;
  PLAIT_TRY(const Family family, read_family(reader, path, model));
  reader.only("architectures", Json::array({family.architecture}));
  reader.only("hidden_act", "silu");
  reader.only("attention_bias", false);
  reader.only("mlp_bias", false);
  reader.integer("vocab_size", model.vocab_size);
  reader.integer("hidden_size", model.hidden_size);
  reader.integer("intermediate_size", model.intermediate_size);
  reader.integer("num_hidden_layers", model.num_hidden_layers);
  reader.integer("num_attention_heads", model.num_attention_heads);
  model.num_key_value_heads = model.num_attention_heads;
  reader.integer("num_key_value_heads", model.num_key_value_heads, /*required=*/false);
  reader.number("rms_norm_eps", model.rms_norm_eps);
  const bool llama = model.architecture == "llama";
  reader.rotary(model.rope_theta, /*whole=*/llama);
  if (!llama) read_mixture(reader, model);
  reader.flag("tie_word_embeddings", model.tie_word_embeddings);
  PLAIT_TRY_VOID(reader.result());
  reader.only("head_dim", model.hidden_size / model.num_attention_heads);
  PLAIT_TRY_VOID(reader.result());
  return model;
}

Expected<void> load_parameters(const std::string& folder, const ModelConfig& model,
                               ParameterStore& store) {
  PLAIT_TRY_VOID(check_same_model(folder, model));
  PLAIT_TRY(const Shards shards, open_shards(folder));
  PLAIT_TRY_VOID(check_tensors(folder, model, shards));
  for (const Parameter& parameter : store.tensors()) {
    const SafetensorsFile& file = shards.files[shards.holder.at(parameter.name)];
    PLAIT_TRY(const at::Tensor loaded, file.read(parameter.name));
    parameter.tensor.detach().copy_(loaded);
  }
  return {};
}

Expected<LanguageModel> load_language_model(const std::string& folder, std::int64_t max_sequence) {
  PLAIT_TRY(const ModelConfig model, read_model_config(folder));
  constexpr std::uint64_t kSeed = 0;  // every number is overwritten
  PLAIT_TRY(LanguageModel result, LanguageModel::make(model, kSeed, max_sequence));
  PLAIT_TRY_VOID(load_parameters(folder, model, result.store()));
  return result;
}

Expected<void> write_model_folder(const std::string& folder, const ModelConfig& model,
                                  std::int64_t max_sequence,
                                  const std::vector<Parameter>& tensors) {
  auto needed = tensor_shapes(model);
  for (const Parameter& tensor : tensors) {
    const auto found = needed.find(tensor.name);
    if (found == needed.end() || at::IntArrayRef(found->second) != tensor.tensor.sizes()) {
      return invalid(folder, fmt::format("tensor {} [{}] is not one of this model's", tensor.name,
                                         fmt::join(tensor.tensor.sizes().vec(), ", ")));
    }
    needed.erase(found);
  }
  if (!needed.empty()) {
    return invalid(folder, fmt::format("tensor {} is missing", needed.begin()->first));
  }
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(ErrorCode::kIo, "cannot make the folder: " + error.message(), folder);
  PLAIT_TRY_VOID(write_safetensors(in_folder(folder, kModel), tensors, {{"format", "pt"}}));
  const std::string config = config_json(model, max_sequence).dump(2) + "\n";
  return write_file_atomically(in_folder(folder, kConfig), config);
}

}  // namespace plait
