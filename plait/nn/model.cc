#include "plait/nn/model.h"

#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "plait/nn/kernels.h"
#include "plait/nn/model_folder.h"
#include "plait/nn/segments.h"

namespace plait {

namespace {

Expected<void> check_model(const ModelConfig& model) {
  const auto wrong = [](const std::string& message) {
    return fail(ErrorCode::kInvalidInput, message);
  };
  if (model.architecture != "llama") {
    return wrong(fmt::format("architecture is {}, this model is llama", model.architecture));
  }
  if (model.num_attention_heads < 1 || model.hidden_size % model.num_attention_heads != 0) {
    return wrong(fmt::format("hidden_size is {}, must be a multiple of {} attention heads",
                             model.hidden_size, model.num_attention_heads));
  }
  if (model.hidden_size / model.num_attention_heads % 2 != 0) {
    return wrong(
        fmt::format("hidden_size {} over {} attention heads is {}, rotary positions need "
                    "an even number",
                    model.hidden_size, model.num_attention_heads,
                    model.hidden_size / model.num_attention_heads));
  }
  if (model.num_key_value_heads < 1 || model.num_attention_heads % model.num_key_value_heads != 0) {
    return wrong(
        fmt::format("num_attention_heads is {}, must be a multiple of "
                    "num_key_value_heads {}",
                    model.num_attention_heads, model.num_key_value_heads));
  }
  return {};
}

Expected<void> check_place(const ModelConfig&, ExpertPlace place) {
  if (place.members == 1 && place.member == 0) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("member {} of {} expert ranks, but the model has no experts",
                          place.member, place.members));
}

/// Makes and initialises parameters by name.
class Maker {
 public:
  Maker(const ModelConfig& model, std::uint64_t seed, ParameterStore& store)
      : shapes_(parameter_shapes(model)),
        residual_deviation_(kDeviation / std::sqrt(2.0 * model.num_hidden_layers)),
        seed_(seed),
        store_(store) {}

  Parameter matrix(const std::string& name) { return normal(name, kDeviation); }
  Parameter residual_matrix(const std::string& name) { return normal(name, residual_deviation_); }
  Parameter norm(const std::string& name) {
    const at::Tensor tensor = store_.create(name, shapes_.at(name));
    tensor.detach().fill_(1.0);
    return {name, tensor};
  }

 private:
  static constexpr double kDeviation = 0.02;

  Parameter normal(const std::string& name, double deviation) {
    const at::Tensor tensor = store_.create(name, shapes_.at(name));
    fill_normal(tensor, seed_, name, deviation);
    return {name, tensor};
  }

  Shapes shapes_;
  double residual_deviation_;
  std::uint64_t seed_;
  ParameterStore& store_;
};

std::vector<Parameter> attention_parameters(Maker& make, int layer) {
  const auto name = [&](const char* rest) { return layer_name(layer, rest); };
  return {make.norm(name("input_layernorm.weight")), make.matrix(name("self_attn.q_proj.weight")),
          make.matrix(name("self_attn.k_proj.weight")),
          make.matrix(name("self_attn.v_proj.weight")),
          make.residual_matrix(name("self_attn.o_proj.weight"))};
}

std::vector<Parameter> mlp_parameters(Maker& make, int layer) {
  const auto name = [&](const char* rest) { return layer_name(layer, rest); };
  return {make.norm(name("post_attention_layernorm.weight")),
          make.matrix(name("mlp.gate_proj.weight")), make.matrix(name("mlp.up_proj.weight")),
          make.residual_matrix(name("mlp.down_proj.weight"))};
}

}  // namespace

Shapes parameter_shapes(const ModelConfig& model) {
  const std::int64_t d = model.hidden_size, i = model.intermediate_size;
  const std::int64_t kv = d / model.num_attention_heads * model.num_key_value_heads;
  Shapes shapes;
  shapes[kEmbeddingName] = {model.vocab_size, d};
  shapes[kFinalNormName] = {d};
  if (!model.tie_word_embeddings) shapes[kHeadName] = {model.vocab_size, d};
  for (int layer = 0; layer < model.num_hidden_layers; ++layer) {
    const auto add = [&](const char* rest, std::vector<std::int64_t> shape) {
      shapes[layer_name(layer, rest)] = std::move(shape);
    };
    add("input_layernorm.weight", {d});
    add("self_attn.q_proj.weight", {d, d});
    add("self_attn.k_proj.weight", {kv, d});
    add("self_attn.v_proj.weight", {kv, d});
    add("self_attn.o_proj.weight", {d, d});
    add("post_attention_layernorm.weight", {d});
    add("mlp.gate_proj.weight", {i, d});
    add("mlp.up_proj.weight", {i, d});
    add("mlp.down_proj.weight", {d, i});
  }
  return shapes;
}

Shapes buffer_shapes(const ModelConfig&) { return {}; }

Expected<std::vector<std::shared_ptr<Segment>>> make_model_segments(
    const ModelConfig& model, const StagePart& part, std::shared_ptr<BatchSlot> batch,
    std::uint64_t seed, std::int64_t max_sequence, ParameterStore& store, ExpertPlace place,
    std::shared_ptr<RouterLoads>) {
  PLAIT_TRY_VOID(check_model(model));
  PLAIT_TRY_VOID(check_place(model, place));
  Maker make(model, seed, store);
  std::vector<std::shared_ptr<Segment>> segments;
  if (part.embedding) {
    segments.push_back(std::make_shared<EmbeddingSegment>(
        std::vector<Parameter>{make.matrix(kEmbeddingName)}, batch));
  }
  const auto rotary = std::make_shared<const RotaryTable>(make_rotary_table(
      max_sequence, model.hidden_size / model.num_attention_heads, model.rope_theta));
  for (int layer = part.first_layer; layer < part.end_layer; ++layer) {
    segments.push_back(std::make_shared<AttentionSegment>(fmt::format("layers.{}.attn", layer),
                                                          attention_parameters(make, layer),
                                                          Attention(model, rotary)));
    segments.push_back(std::make_shared<MlpSegment>(
        fmt::format("layers.{}.mlp", layer), mlp_parameters(make, layer), model.rms_norm_eps));
  }
  if (part.head) {
    if (model.tie_word_embeddings && !store.contains(kEmbeddingName)) {
      return fail(ErrorCode::kInvalidInput,
                  "tie_word_embeddings is true, but the rank of the head does not hold the "
                  "embedding; both must be on one rank");
    }
    Parameter projection = model.tie_word_embeddings
                               ? Parameter{kEmbeddingName, store.alias(kEmbeddingName)}
                               : make.matrix(kHeadName);
    segments.push_back(std::make_shared<HeadSegment>(
        std::vector<Parameter>{make.norm(kFinalNormName), std::move(projection)},
        model.rms_norm_eps, std::move(batch)));
  }
  return segments;
}

Expected<LanguageModel> LanguageModel::make(const ModelConfig& model, std::uint64_t seed,
                                            std::int64_t max_sequence) {
  LanguageModel result;
  result.config_ = model;
  result.batch_ = std::make_shared<BatchSlot>();
  result.store_ = std::make_unique<ParameterStore>();
  const StagePart whole{0, model.num_hidden_layers, true, true};
  PLAIT_TRY(result.segments_,
            make_model_segments(model, whole, result.batch_, seed, max_sequence, *result.store_));
  return result;
}

Expected<LanguageModel> LanguageModel::load(const std::string& folder, std::int64_t max_sequence) {
  PLAIT_TRY(const ModelConfig model, read_model_config(folder));
  constexpr std::uint64_t kSeed = 0;  // every number is overwritten
  PLAIT_TRY(LanguageModel result, make(model, kSeed, max_sequence));
  PLAIT_TRY_VOID(load_parameters(folder, model, *result.store_));
  return result;
}

Expected<at::Tensor> LanguageModel::logits(const at::Tensor& tokens) {
  const std::int64_t lowest = tokens.min().item().toLong(), highest = tokens.max().item().toLong();
  if (lowest < 0 || highest >= config_.vocab_size) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("token is {}, must be below vocab_size {}",
                            lowest < 0 ? lowest : highest, config_.vocab_size));
  }
  const c10::AutoGradMode no_graph(false);
  try {
    batch_->batch.tokens = {tokens};
    TensorList values;
    for (std::size_t i = 0; i + 1 < segments_.size(); ++i) {
      values = segments_[i]->forward(values, 0);
    }
    return dynamic_cast<const HeadSegment&>(*segments_.back())
        .logits(values[0])
        .view({tokens.size(0), tokens.size(1), config_.vocab_size});
  } catch (const SegmentError& error) {
    return fail(error.code(), error.what());
  } catch (const c10::Error& error) {
    return fail(ErrorCode::kRuntime, error.what_without_backtrace());
  }
}

}  // namespace plait
