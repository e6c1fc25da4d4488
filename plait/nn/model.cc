#include "plait/nn/model.h"

#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <fmt/core.h>

#include <cmath>
#include <utility>

#include "plait/base/check.h"
#include "plait/nn/kernels.h"
#include "plait/nn/mixture.h"
#include "plait/nn/segments.h"

namespace plait {

namespace {

Expected<void> check_model(const ModelConfig& model) {
  const auto wrong = [](const std::string& message) {
    return fail(ErrorCode::kInvalidInput, message);
  };
  if (model.architecture != "llama" && model.architecture != "deepseek-v3") {
    return wrong(
        fmt::format("architecture is {}, needed llama or deepseek-v3", model.architecture));
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

Expected<void> check_place(const ModelConfig& model, GroupPlace place) {
  PLAIT_CHECK(place.members >= 1 && place.member >= 0 && place.member < place.members,
              "a member of its expert group");
  if (place.members == 1) return {};
  if (model.n_routed_experts == 0) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("expert is {}, needs a model with a mixture of experts (deepseek-v3), "
                            "architecture is {}",
                            place.members, model.architecture));
  }
  if (model.n_routed_experts % place.members == 0) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("n_routed_experts is {}, must be a multiple of {} expert ranks",
                          model.n_routed_experts, place.members));
}

Expected<void> check_mixture(const ModelConfig& model) {
  if (model.architecture != "deepseek-v3") return {};
  if (model.num_experts_per_tok >= 1 && model.num_experts_per_tok <= model.n_routed_experts) {
    return {};
  }
  return fail(ErrorCode::kInvalidInput,
              fmt::format("num_experts_per_tok is {}, needs to be at least 1 and at most "
                          "n_routed_experts {}",
                          model.num_experts_per_tok, model.n_routed_experts));
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
  /// gate, up and down of a SwiGLU whose names begin with `prefix`.
  void add_swiglu(const std::string& prefix, std::vector<Parameter>& parameters) {
    parameters.push_back(matrix(prefix + "gate_proj.weight"));
    parameters.push_back(matrix(prefix + "up_proj.weight"));
    parameters.push_back(residual_matrix(prefix + "down_proj.weight"));
  }
  at::Tensor router_bias(int layer, std::int64_t experts) {
    return store_.create_buffer(router_bias_name(layer), {experts});
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
  std::vector<Parameter> parameters = {
      make.norm(layer_name(layer, "post_attention_layernorm.weight"))};
  make.add_swiglu(layer_name(layer, "mlp."), parameters);
  return parameters;
}

std::vector<Parameter> expert_parameters(Maker& make, const ModelConfig& model, int layer,
                                         GroupPlace place) {
  std::vector<Parameter> parameters;
  if (model.n_shared_experts > 0) {
    make.add_swiglu(layer_name(layer, "mlp.shared_experts."), parameters);
  }
  const int local = model.n_routed_experts / place.members;
  for (int expert = place.member * local; expert < (place.member + 1) * local; ++expert) {
    make.add_swiglu(expert_name(layer, expert, ""), parameters);
  }
  return parameters;
}

using SegmentList = std::vector<std::shared_ptr<Segment>>;

/// What every layer is made with.
struct LayerContext {
  const ModelConfig& model;
  std::shared_ptr<const RotaryTable> rotary;
  std::shared_ptr<const BatchSlot> batch;
  double token_bound;

  Dropout dropout(int layer, Branch branch) const {
    return {model.hidden_dropout, layer, branch, batch};
  }
  Attention attention(int layer) const {
    return {model, rotary, dropout(layer, Branch::kAttention)};
  }
};

void add_dense_layer(const LayerContext& context, int layer, Maker& make, SegmentList& segments) {
  segments.push_back(std::make_shared<AttentionSegment>(fmt::format("layers.{}.attn", layer),
                                                        attention_parameters(make, layer),
                                                        context.attention(layer)));
  segments.push_back(std::make_shared<MlpSegment>(
      fmt::format("layers.{}.mlp", layer), mlp_parameters(make, layer), context.model.rms_norm_eps,
      context.dropout(layer, Branch::kMlp)));
}

void add_mixture_layer(const LayerContext& context, int layer, GroupPlace place,
                       std::shared_ptr<RouterLoads> loads, Maker& make, SegmentList& segments) {
  const ModelConfig& model = context.model;
  const Dropout dropout = context.dropout(layer, Branch::kMlp);
  const auto name = [&](const char* part) { return fmt::format("layers.{}.{}", layer, part); };
  std::vector<Parameter> parameters = attention_parameters(make, layer);
  parameters.push_back(make.norm(layer_name(layer, "post_attention_layernorm.weight")));
  parameters.push_back(make.matrix(layer_name(layer, "mlp.gate.weight")));
  segments.push_back(std::make_shared<RoutedAttentionSegment>(
      name("attn"), std::move(parameters), context.attention(layer), model.rms_norm_eps,
      RouterParts{layer, make.router_bias(layer, model.n_routed_experts), router_options(model),
                  std::move(loads)}));
  segments.push_back(make_counts_segment(name("counts"), place.members));
  segments.push_back(make_dispatch_segment(name("dispatch"), place.members, context.token_bound));
  segments.push_back(
      std::make_shared<ExpertsSegment>(name("mlp"), expert_parameters(make, model, layer, place),
                                       model.n_shared_experts > 0, place.members, dropout));
  segments.push_back(make_combine_segment(name("combine"), place.members));
  segments.push_back(std::make_shared<JoinSegment>(name("join"), dropout));
}

void add_swiglu_shapes(Shapes& shapes, const std::string& prefix, std::int64_t hidden,
                       std::int64_t width) {
  shapes[prefix + "gate_proj.weight"] = {width, hidden};
  shapes[prefix + "up_proj.weight"] = {width, hidden};
  shapes[prefix + "down_proj.weight"] = {hidden, width};
}

void add_mixture_shapes(Shapes& shapes, const ModelConfig& model, int layer) {
  const std::int64_t d = model.hidden_size, width = model.moe_intermediate_size;
  shapes[layer_name(layer, "mlp.gate.weight")] = {model.n_routed_experts, d};
  for (int expert = 0; expert < model.n_routed_experts; ++expert) {
    add_swiglu_shapes(shapes, expert_name(layer, expert, ""), d, width);
  }
  if (model.n_shared_experts > 0) {
    add_swiglu_shapes(shapes, layer_name(layer, "mlp.shared_experts."), d,
                      width * model.n_shared_experts);
  }
}

}  // namespace

Shapes parameter_shapes(const ModelConfig& model) {
  const std::int64_t d = model.hidden_size;
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
    if (is_mixture_layer(model, layer)) {
      add_mixture_shapes(shapes, model, layer);
    } else {
      add_swiglu_shapes(shapes, layer_name(layer, "mlp."), d, model.intermediate_size);
    }
  }
  return shapes;
}

Shapes buffer_shapes(const ModelConfig& model) {
  Shapes shapes;
  for (int layer = 0; layer < model.num_hidden_layers; ++layer) {
    if (is_mixture_layer(model, layer)) shapes[router_bias_name(layer)] = {model.n_routed_experts};
  }
  return shapes;
}

Expected<std::vector<std::shared_ptr<Segment>>> make_model_segments(
    const ModelConfig& model, const StagePart& part, std::shared_ptr<BatchSlot> batch,
    std::uint64_t seed, std::int64_t max_sequence, ParameterStore& store, GroupPlace place,
    const std::shared_ptr<RouterLoads>& loads, double token_bound) {
  PLAIT_TRY_VOID(check_model(model));
  PLAIT_TRY_VOID(check_mixture(model));
  PLAIT_TRY_VOID(check_place(model, place));
  Maker make(model, seed, store);
  SegmentList segments;
  if (part.embedding) {
    segments.push_back(std::make_shared<EmbeddingSegment>(
        std::vector<Parameter>{make.matrix(kEmbeddingName)}, batch));
  }
  const LayerContext context{
      model,
      std::make_shared<const RotaryTable>(make_rotary_table(
          max_sequence, model.hidden_size / model.num_attention_heads, model.rope_theta)),
      batch, token_bound};
  for (int layer = part.first_layer; layer < part.end_layer; ++layer) {
    if (is_mixture_layer(model, layer)) {
      add_mixture_layer(context, layer, place, loads, make, segments);
    } else {
      add_dense_layer(context, layer, make, segments);
    }
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
