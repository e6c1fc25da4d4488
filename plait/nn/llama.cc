#include "plait/nn/llama.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "plait/nn/kernels.h"
#include "plait/nn/model_folder.h"

namespace plait {

namespace {

using List = std::vector<at::Tensor>;

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kNorm = "model.norm.weight";
constexpr const char* kHead = "lm_head.weight";

std::string layer_name(int layer, const char* rest) {
  return fmt::format("model.layers.{}.{}", layer, rest);
}

class NamedSegment : public Segment {
 public:
  const std::string& name() const override { return name_; }
  List forward(const List& inputs, int microbatch) override = 0;
  std::vector<Parameter> parameters() const override { return parameters_; }

 protected:
  NamedSegment(std::string name, std::vector<Parameter> parameters)
      : name_(std::move(name)), parameters_(std::move(parameters)) {}
  const at::Tensor& weight(std::size_t i) const { return parameters_[i].tensor; }

 private:
  std::string name_;
  std::vector<Parameter> parameters_;
};

class EmbeddingSegment final : public NamedSegment {
 public:
  EmbeddingSegment(std::vector<Parameter> parameters, std::shared_ptr<BatchSlot> batch)
      : NamedSegment("embedding", std::move(parameters)), batch_(std::move(batch)) {}

  List forward(const List&, int microbatch) override {
    const auto index = static_cast<std::size_t>(microbatch);
    return {at::embedding(weight(0), batch_->batch.tokens.at(index))};
  }

 private:
  std::shared_ptr<BatchSlot> batch_;
};

class AttentionSegment final : public NamedSegment {
 public:
  AttentionSegment(std::string name, std::vector<Parameter> parameters, const ModelConfig& model,
                   std::shared_ptr<const RotaryTable> rotary)
      : NamedSegment(std::move(name), std::move(parameters)),
        heads_(model.num_attention_heads),
        key_value_heads_(model.num_key_value_heads),
        head_size_(model.hidden_size / model.num_attention_heads),
        eps_(model.rms_norm_eps),
        rotary_(std::move(rotary)) {}

  List forward(const List& inputs, int) override {
    const at::Tensor& x = inputs[0];
    if (x.size(1) > rotary_->cosine.size(0)) {
      throw SegmentError(ErrorCode::kInvalidInput,
                         fmt::format("sequence has {} tokens, the model was made for at most {}",
                                     x.size(1), rotary_->cosine.size(0)));
    }
    const at::Tensor rows = x.view({-1, x.size(-1)});
    const at::Tensor h = rms_norm(rows, weight(0), eps_);
    const at::IntArrayRef batch = x.sizes().slice(0, 2);
    const at::Tensor query = rotate(project(h, batch, 1, heads_), *rotary_).transpose(1, 2);
    const at::Tensor key = rotate(project(h, batch, 2, key_value_heads_), *rotary_).transpose(1, 2);
    const at::Tensor value = project(h, batch, 3, key_value_heads_).transpose(1, 2);
    const at::Tensor mixed = at::scaled_dot_product_attention(
        query, key, value, /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true,
        /*scale=*/std::nullopt, /*enable_gqa=*/heads_ != key_value_heads_);
    const at::Tensor joined = mixed.transpose(1, 2).reshape(rows.sizes());
    return {at::addmm(rows, joined, weight(4).t()).view(x.sizes())};
  }

 private:
  at::Tensor project(const at::Tensor& h, at::IntArrayRef batch, std::size_t which,
                     std::int64_t heads) const {
    return at::mm(h, weight(which).t()).view({batch[0], batch[1], heads, head_size_});
  }

  std::int64_t heads_, key_value_heads_, head_size_;
  double eps_;
  std::shared_ptr<const RotaryTable> rotary_;
};

class MlpSegment final : public NamedSegment {
 public:
  MlpSegment(std::string name, std::vector<Parameter> parameters, double eps)
      : NamedSegment(std::move(name), std::move(parameters)), eps_(eps) {}

  List forward(const List& inputs, int) override {
    const at::Tensor& x = inputs[0];
    const at::Tensor rows = x.view({-1, x.size(-1)});
    const at::Tensor h = rms_norm(rows, weight(0), eps_);
    const at::Tensor product = swiglu(at::mm(h, weight(1).t()), at::mm(h, weight(2).t()));
    return {at::addmm(rows, product, weight(3).t()).view(x.sizes())};
  }

 private:
  double eps_;
};

class HeadSegment final : public NamedSegment {
 public:
  HeadSegment(std::vector<Parameter> parameters, double eps, std::shared_ptr<BatchSlot> batch)
      : NamedSegment("head", std::move(parameters)), eps_(eps), batch_(std::move(batch)) {}

  List forward(const List& inputs, int microbatch) override {
    const at::Tensor scores = logits(inputs[0]);
    const at::Tensor& targets = batch_->batch.targets.at(static_cast<std::size_t>(microbatch));
    return {at::cross_entropy_loss(scores, targets.view({-1}))};
  }

  /// One row per token.
  at::Tensor logits(const at::Tensor& x) const {
    return at::mm(rms_norm(x.view({-1, x.size(-1)}), weight(0), eps_), weight(1).t());
  }

 private:
  double eps_;
  std::shared_ptr<BatchSlot> batch_;
};

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

/// Makes and initialises parameters by name.
class Maker {
 public:
  Maker(const ModelConfig& model, std::uint64_t seed, ParameterStore& store)
      : shapes_(llama_parameter_shapes(model)),
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

  std::map<std::string, std::vector<std::int64_t>> shapes_;
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

std::map<std::string, std::vector<std::int64_t>> llama_parameter_shapes(const ModelConfig& model) {
  const std::int64_t d = model.hidden_size, i = model.intermediate_size;
  const std::int64_t kv = d / model.num_attention_heads * model.num_key_value_heads;
  std::map<std::string, std::vector<std::int64_t>> shapes;
  shapes[kEmbedding] = {model.vocab_size, d};
  shapes[kNorm] = {d};
  if (!model.tie_word_embeddings) shapes[kHead] = {model.vocab_size, d};
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

Expected<std::vector<std::shared_ptr<Segment>>> make_llama_segments(
    const ModelConfig& model, const StagePart& part, std::shared_ptr<BatchSlot> batch,
    std::uint64_t seed, std::int64_t max_sequence, ParameterStore& store) {
  PLAIT_TRY_VOID(check_model(model));
  Maker make(model, seed, store);
  std::vector<std::shared_ptr<Segment>> segments;
  if (part.embedding) {
    segments.push_back(
        std::make_shared<EmbeddingSegment>(std::vector<Parameter>{make.matrix(kEmbedding)}, batch));
  }
  const auto rotary = std::make_shared<const RotaryTable>(make_rotary_table(
      max_sequence, model.hidden_size / model.num_attention_heads, model.rope_theta));
  for (int layer = part.first_layer; layer < part.end_layer; ++layer) {
    segments.push_back(std::make_shared<AttentionSegment>(
        fmt::format("layers.{}.attn", layer), attention_parameters(make, layer), model, rotary));
    segments.push_back(std::make_shared<MlpSegment>(
        fmt::format("layers.{}.mlp", layer), mlp_parameters(make, layer), model.rms_norm_eps));
  }
  if (part.head) {
    if (model.tie_word_embeddings && !store.contains(kEmbedding)) {
      return fail(ErrorCode::kInvalidInput,
                  "tie_word_embeddings is true, but the rank of the head does not hold the "
                  "embedding; both must be on one rank");
    }
    Parameter projection = model.tie_word_embeddings
                               ? Parameter{kEmbedding, store.alias(kEmbedding)}
                               : make.matrix(kHead);
    segments.push_back(std::make_shared<HeadSegment>(
        std::vector<Parameter>{make.norm(kNorm), std::move(projection)}, model.rms_norm_eps,
        std::move(batch)));
  }
  return segments;
}

Expected<LlamaModel> LlamaModel::make(const ModelConfig& model, std::uint64_t seed,
                                      std::int64_t max_sequence) {
  LlamaModel result;
  result.config_ = model;
  result.max_sequence_ = max_sequence;
  result.batch_ = std::make_shared<BatchSlot>();
  result.store_ = std::make_unique<ParameterStore>();
  const StagePart whole{0, model.num_hidden_layers, true, true};
  PLAIT_TRY(result.segments_,
            make_llama_segments(model, whole, result.batch_, seed, max_sequence, *result.store_));
  return result;
}

Expected<LlamaModel> LlamaModel::load(const std::string& folder, std::int64_t max_sequence) {
  PLAIT_TRY(const ModelConfig model, read_model_config(folder));
  constexpr std::uint64_t kSeed = 0;  // every number is overwritten
  PLAIT_TRY(LlamaModel result, make(model, kSeed, max_sequence));
  PLAIT_TRY_VOID(load_parameters(folder, model, *result.store_));
  return result;
}

Expected<at::Tensor> LlamaModel::logits(const at::Tensor& tokens) {
  const std::int64_t lowest = tokens.min().item().toLong(), highest = tokens.max().item().toLong();
  if (lowest < 0 || highest >= config_.vocab_size) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("token is {}, must be below vocab_size {}",
                            lowest < 0 ? lowest : highest, config_.vocab_size));
  }
  const c10::AutoGradMode no_graph(false);
  try {
    batch_->batch.tokens = {tokens};
    List values;
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
