#include "plait/checkpoint/hf_config.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>
#include <variant>

#include "plait/base/json_node.h"
#include "plait/base/key_reader.h"
#include "plait/base/read_file.h"
#include "plait/model/architectures.h"
#include "plait/model/model_keys.h"

namespace plait {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kScaling = "rope_scaling";
constexpr const char* kParameters = "rope_parameters";
constexpr const char* kPartial = "partial_rotary_factor";

/// The keys of a config.json: what is unknown is left alone, and null counts as not there.
class Reader {
 public:
  Reader(std::string place, const Json& json, FirstError& error)
      : place_(std::move(place)),
        json_(json),
        error_(error),
        keys_(JsonNode<Json>(json), place_, error) {}

  const Json* find(std::string_view key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  bool has(std::string_view key) const { return json_.contains(key); }

  template <typename Field>
  void read(std::string_view key, Field& field) {
    if (find(key) != nullptr) keys_.read(key, field);
  }
  template <typename Field>
  void require(std::string_view key, Field& field) {
    if (find(key) == nullptr) return keys_.missing(key);
    keys_.read(key, field);
  }
  /// `value` is what the key has, or what a missing one means.
  void only(std::string_view key, const Json& value, const Json& needed, bool missing) {
    if (value == needed || (!missing && value.is_null())) return;
    fail_with(ErrorCode::kNotBuilt,
              missing ? fmt::format("{} is missing, which means {}, this version knows only {}",
                                    key, value.dump(), needed.dump())
                      : fmt::format("{} is {}, this version knows only {}", key, value.dump(),
                                    needed.dump()));
  }
  void fail_with(ErrorCode code, const std::string& message) {
    error_.set({code, message, place_});
  }
  /// Of an object in this one.
  Reader inner(const std::string& key) const { return {place_ + ":/" + key, *find(key), error_}; }
  Expected<void> result() const { return error_.result(); }

 private:
  std::string place_;
  const Json& json_;
  FirstError& error_;
  KeyReader<JsonNode<Json>> keys_;
};

Expected<Json> read_json(const std::string& path) {
  PLAIT_TRY(const std::string text, read_file(path, "model's"));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return fail(ErrorCode::kInvalidInput, "is not a JSON object", path);
  return json;
}

/// An architecture and how transformers call it.
struct Family {
  const ArchitectureInfo* architecture;
  const FolderForm* form;
};

Expected<Family> read_family(Reader& reader) {
  std::string type = architectures().front().forms.front().model_type.data();
  reader.read("model_type", type);
  PLAIT_TRY_VOID(reader.result());
  std::string known;
  for (const ArchitectureInfo& architecture : architectures()) {
    for (const FolderForm& form : architecture.forms) {
      if (form.model_type == type) return Family{&architecture, &form};
      known += fmt::format("{}{}", known.empty() ? "" : ", ", form.model_type);
    }
  }
  reader.fail_with(ErrorCode::kNotBuilt,
                   fmt::format("model_type is {}, this version knows only {}", type, known));
  return tl::unexpected<Error>(reader.result().error());
}

/// Keys that may have one value only.
void read_fixed(Reader& reader, const Json& json, const FolderForm& form) {
  reader.only("architectures", json.value("architectures", Json()), Json::array({form.class_name}),
              false);
  const Json* parameters = reader.find(kParameters);
  for (const FixedKey& key : form.fixed) {
    const Json needed = Json::parse(key.needed);
    if (reader.has(key.name)) {
      reader.only(key.name, json.at(std::string(key.name)), needed, false);
    } else if (parameters == nullptr || !parameters->contains(key.name)) {
      reader.only(key.name, Json::parse(key.missing), needed, true);
    }
  }
  if (!form.scoring_func.empty())
    reader.only("scoring_func", json.value("scoring_func", Json()), form.scoring_func, false);
  if (const Json* types = reader.find("layer_types")) {
    for (const Json& type : *types) reader.only("layer_types", type, "full_attention", false);
  }
}

/// One of the objects that say how positions turn.
void read_rope_object(Reader& reader, const char* key, ModelConfig& model) {
  const Json* found = reader.find(key);
  if (found == nullptr) return;
  if (!found->is_object()) {
    reader.fail_with(ErrorCode::kInvalidInput,
                     fmt::format("{} is {}, needed an object", key, shown_json(*found)));
    return;
  }
  Reader inner = reader.inner(key);
  inner.read("rope_theta", model.rope_theta);
  if (const Json* partial = inner.find(kPartial)) inner.only(kPartial, *partial, 1.0, false);
  RopeScaling scaling;
  inner.read(inner.has("rope_type") ? "rope_type" : "type", scaling.rope_type);
  if (scaling.rope_type == "llama3") {
    inner.require("factor", scaling.factor);
    inner.require("low_freq_factor", scaling.low_freq_factor);
    inner.require("high_freq_factor", scaling.high_freq_factor);
    inner.require("original_max_position_embeddings", scaling.original_max_position_embeddings);
  } else if (scaling.scales()) {
    inner.fail_with(ErrorCode::kNotBuilt,
                    fmt::format("rope_type is \"{}\", this version knows only default and llama3",
                                scaling.rope_type));
  }
  if (scaling.scales()) model.rope_scaling = scaling;
}

/// transformers 5 keep everything about positions in rope_parameters, earlier ones in rope_theta
/// and rope_scaling.
void read_rotary(Reader& reader, ModelConfig& model) {
  reader.read("rope_theta", model.rope_theta);
  read_rope_object(reader, kScaling, model);
  read_rope_object(reader, kParameters, model);
}

Json rope_object(const ModelConfig& model) {
  const RopeScaling& scaling = model.rope_scaling;
  Json json = {{"rope_type", scaling.rope_type}};
  if (!scaling.scales()) return json;
  json["factor"] = scaling.factor;
  json["low_freq_factor"] = scaling.low_freq_factor;
  json["high_freq_factor"] = scaling.high_freq_factor;
  json["original_max_position_embeddings"] = scaling.original_max_position_embeddings;
  return json;
}

struct ToJson {
  Json operator()(const RopeScaling*) const { return {}; }
  template <typename Value>
  Json operator()(const Value* value) const {
    return *value;
  }
};

bool in_file(const ModelKey& key) {
  return key.home == KeyHome::kRequired || key.home == KeyHome::kOptional;
}

Family family_of(const ModelConfig& model) {
  const ArchitectureInfo* architecture = find_architecture(model.architecture);
  for (const FolderForm& form : architecture->forms) {
    if (form.scoring_func.empty() || form.scoring_func == model.scoring_func)
      return {architecture, &form};
  }
  return {architecture, &architecture->forms.front()};
}

void read_keys(Reader& reader, const Family& family, ModelConfig& model) {
  for (const ModelKey& key : kModelKeys) {
    if (!in_file(key) || key.name == kScaling || (key.mixture && !family.architecture->mixture))
      continue;
    std::visit(
        [&](auto* field) {
          // rope_scaling is read with the rotary positions.
          if constexpr (!std::is_same_v<decltype(field), RopeScaling*>) {
            key.home == KeyHome::kRequired ? reader.require(key.name, *field)
                                           : reader.read(key.name, *field);
          }
        },
        key.field(model));
    // Null means as many heads as of queries, in every family.
    const bool null = reader.has(key.name) && reader.find(key.name) == nullptr;
    if (key.name == "num_key_value_heads" && (null || model.num_key_value_heads == 0))
      model.num_key_value_heads = model.num_attention_heads;
  }
}

}  // namespace

Expected<FolderConfig> read_folder_config(const std::string& folder, const ModelConfig& job) {
  const std::string path = (std::filesystem::path(folder) / "config.json").string();
  PLAIT_TRY(const Json json, read_json(path));
  FirstError first;
  Reader reader(path, json, first);
  PLAIT_TRY(const Family family, read_family(reader));
  FolderConfig config;
  ModelConfig& model = config.model;
  model.init = folder;
  model.router_aux_loss_coef = job.router_aux_loss_coef;
  model.bias_update_speed = job.bias_update_speed;
  model.hidden_dropout = job.hidden_dropout;
  model.architecture = family.architecture->name;
  model.rms_norm_eps = family.form->rms_norm_eps;
  model.head_dim = family.form->head_dim;
  model.num_key_value_heads = family.form->num_key_value_heads;
  if (!family.form->scoring_func.empty()) model.scoring_func = family.form->scoring_func;
  read_fixed(reader, json, *family.form);
  read_keys(reader, family, model);
  read_rotary(reader, model);
  for (const char* key : {"num_nextn_predict_layers", "num_mtp_layers"})
    reader.read(key, config.prediction_layers);
  PLAIT_TRY_VOID(reader.result());
  if (Expected<void> checked = check_model(model); !checked) {
    Error error = std::move(checked).error();
    error.where = path;
    return tl::unexpected<Error>(std::move(error));
  }
  if (model.head_dim * model.num_attention_heads == model.hidden_size) model.head_dim = 0;
  return config;
}

Expected<void> check_same_model(const std::string& path, const ModelConfig& folder,
                                const ModelConfig& job) {
  ModelConfig found = folder, needed = job;
  found.head_dim = found.head_size();
  needed.head_dim = needed.head_size();
  for (const ModelKey& key : kModelKeys) {
    if (key.home == KeyHome::kJobOnly || key.name == "init") continue;
    const std::string a = print_model_value(key.field(found));
    const std::string b = print_model_value(key.field(needed));
    if (a == b) continue;
    return fail(ErrorCode::kInvalidInput, fmt::format("{} is {}, the job needs {}", key.name, a, b),
                path);
  }
  return {};
}

Expected<void> check_given_keys(const ModelConfig& folder, const ModelConfig& job,
                                const std::map<std::string, std::string>& given) {
  ModelConfig found = folder, wanted = job;
  // 0 is a way to write hidden_size / num_attention_heads.
  found.head_dim = found.head_size();
  if (wanted.head_dim == 0) wanted.head_dim = found.hidden_size / found.num_attention_heads;
  for (const ModelKey& key : kModelKeys) {
    if (key.home == KeyHome::kJobOnly || key.name == "init") continue;
    const auto where = given.find(fmt::format("model.{}", key.name));
    if (where == given.end()) continue;
    const std::string a = print_model_value(key.field(found));
    const std::string b = print_model_value(key.field(wanted));
    if (a == b) continue;
    return fail(ErrorCode::kInvalidInput,
                fmt::format("model.{} is {}, but model.init is {}, whose files say {}: leave the "
                            "key out, or write what they say",
                            key.name, b, folder.init, a),
                where->second);
  }
  return {};
}

std::string print_folder_config(const ModelConfig& model, std::int64_t max_sequence) {
  const Family family = family_of(model);
  ModelConfig copy = model;
  copy.head_dim = copy.head_size();
  Json json;
  json["architectures"] = {family.form->class_name};
  json["model_type"] = family.form->model_type;
  for (const ModelKey& key : kModelKeys) {
    if (!in_file(key) || (key.mixture && !family.architecture->mixture)) continue;
    if (key.name != kScaling) json[std::string(key.name)] = std::visit(ToJson{}, key.field(copy));
  }
  Json rope = rope_object(model);
  if (model.rope_scaling.scales()) json[kScaling] = rope;
  rope["rope_theta"] = model.rope_theta;
  for (const FixedKey& key : family.form->fixed) {
    if (key.name != kPartial) {
      json[std::string(key.name)] = Json::parse(key.needed);
    } else if (key.missing != key.needed) {
      rope[kPartial] = 1.0;
    }
  }
  json[kParameters] = std::move(rope);
  if (family.architecture->mixture) {
    json["scoring_func"] = model.scoring_func;
    json["num_nextn_predict_layers"] = 0;
  }
  json["max_position_embeddings"] = max_sequence;
  json["attention_dropout"] = 0.0;
  json["initializer_range"] = 0.02;
  json["bos_token_id"] = nullptr;
  json["eos_token_id"] = nullptr;
  json["use_cache"] = true;
  json["torch_dtype"] = "float32";
  return json.dump(2) + "\n";
}

}  // namespace plait
