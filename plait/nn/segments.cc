#include "plait/nn/segments.h"

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <fmt/core.h>

#include <string_view>
#include <utility>

#include "plait/model/names.h"

namespace plait {

namespace {

/// Torch's memory-saving attention in float32 on GPUs needs as many heads of keys as of queries.
bool takes_grouped(const at::Tensor& query) {
  return query.is_cpu() || query.scalar_type() != at::kFloat;
}

/// [sequences, groups, length, head_size] to [sequences, heads, …]: each group's for its heads.
at::Tensor for_each_head(const at::Tensor& x, std::int64_t heads) {
  const std::int64_t groups = x.size(1);
  return x.unsqueeze(2)
      .expand({x.size(0), groups, heads / groups, x.size(2), x.size(3)})
      .reshape({x.size(0), heads, x.size(2), x.size(3)});
}

}  // namespace

NamedSegment::NamedSegment(std::string name, std::vector<Parameter> parameters)
    : name_(std::move(name)), parameters_(std::move(parameters)) {}

at::Tensor gated_product(const at::Tensor& h, const Parameter& gate, const Parameter& up) {
  return swiglu(matrix_product(h, gate), matrix_product(h, up));
}

at::Tensor add_product(const at::Tensor& rows, const at::Tensor& left, const Parameter& matrix,
                       const Dropout& dropout, int microbatch) {
  if (!dropout.drops()) return add_matrix_product(rows, left, matrix);
  return dropout.add(rows, matrix_product(left, matrix), microbatch);
}

AttentionWeights::AttentionWeights(const std::vector<Parameter>& parameters) {
  const auto take_matrix = [&](std::string_view rest, Parameter& into) {
    for (const Parameter& parameter : parameters)
      if (parameter.name.ends_with(rest)) into = parameter;
  };
  const auto take = [&](std::string_view rest, at::Tensor& into) {
    Parameter found;
    take_matrix(rest, found);
    into = found.tensor;
  };
  take(kAttentionNormName, norm);
  take_matrix(kOutputName, output);
  take_matrix(kQueryName, query.matrix);
  take_matrix(kKeyName, key.matrix);
  take_matrix(kValueName, value.matrix);
  take(kQueryBiasName, query.bias);
  take(kKeyBiasName, key.bias);
  take(kValueBiasName, value.bias);
  take(kQueryNormName, query.norm);
  take(kKeyNormName, key.norm);
}

Attention::Attention(const ModelConfig& model, const std::vector<Parameter>& parameters,
                     std::shared_ptr<const RotaryTable> rotary, Dropout dropout)
    : weights_(parameters),
      heads_(model.num_attention_heads),
      key_value_heads_(model.num_key_value_heads),
      head_size_(model.head_size()),
      eps_(model.rms_norm_eps),
      rotary_(std::move(rotary)),
      dropout_(std::move(dropout)) {}

at::Tensor Attention::add_to(const at::Tensor& x, int microbatch) const {
  if (x.size(1) > rotary_->cosine.size(0)) {
    throw SegmentError(ErrorCode::kInvalidInput,
                       fmt::format("sequence has {} tokens, the model was made for at most {}",
                                   x.size(1), rotary_->cosine.size(0)));
  }
  const at::Tensor rows = x.view({-1, x.size(-1)});
  const at::Tensor h = rms_norm(rows, weights_.norm, eps_);
  const at::IntArrayRef batch = x.sizes().slice(0, 2);
  const at::Tensor query =
      rotate(project(h, batch, weights_.query, heads_), *rotary_).transpose(1, 2);
  at::Tensor key =
      rotate(project(h, batch, weights_.key, key_value_heads_), *rotary_).transpose(1, 2);
  at::Tensor value = project(h, batch, weights_.value, key_value_heads_).transpose(1, 2);
  const bool grouped = heads_ != key_value_heads_ && takes_grouped(query);
  if (heads_ != key_value_heads_ && !grouped) {
    key = for_each_head(key, heads_);
    value = for_each_head(value, heads_);
  }
  const at::Tensor mixed = at::scaled_dot_product_attention(
      query, key, value, /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true,
      /*scale=*/std::nullopt, /*enable_gqa=*/grouped);
  const at::Tensor joined = mixed.transpose(1, 2).reshape({rows.size(0), heads_ * head_size_});
  return add_product(rows, joined, weights_.output, dropout_, microbatch);
}

at::Tensor Attention::project(const at::Tensor& h, at::IntArrayRef batch,
                              const AttentionWeights::Projection& weights,
                              std::int64_t heads) const {
  at::Tensor rows = matrix_product(h, weights.matrix);
  if (weights.bias.defined()) rows = add_bias(rows, weights.bias);
  const at::Tensor by_head = rows.view({batch[0], batch[1], heads, head_size_});
  return weights.norm.defined() ? rms_norm(by_head, weights.norm, eps_) : by_head;
}

EmbeddingSegment::EmbeddingSegment(std::string name, std::vector<Parameter> parameters,
                                   std::shared_ptr<BatchSlot> batch, at::ScalarType dtype)
    : NamedSegment(std::move(name), std::move(parameters)),
      batch_(std::move(batch)),
      dtype_(dtype) {}

TensorList EmbeddingSegment::forward(const TensorList&, int microbatch) {
  const auto index = static_cast<std::size_t>(microbatch);
  return {at::embedding(weight(0), batch_->batch.tokens.at(index)).to(dtype_)};
}

AttentionSegment::AttentionSegment(std::string name, std::vector<Parameter> parameters,
                                   Attention attention)
    : NamedSegment(std::move(name), std::move(parameters)), attention_(std::move(attention)) {}

TensorList AttentionSegment::forward(const TensorList& inputs, int microbatch) {
  return {attention_.add_to(inputs[0], microbatch).view(inputs[0].sizes())};
}

MlpSegment::MlpSegment(std::string name, std::vector<Parameter> parameters, double eps,
                       Dropout dropout)
    : NamedSegment(std::move(name), std::move(parameters)),
      eps_(eps),
      dropout_(std::move(dropout)) {}

TensorList MlpSegment::forward(const TensorList& inputs, int microbatch) {
  const at::Tensor& x = inputs[0];
  const at::Tensor rows = x.view({-1, x.size(-1)});
  const at::Tensor h = rms_norm(rows, weight(0), eps_);
  const at::Tensor product = gated_product(h, matrix(1), matrix(2));
  return {add_product(rows, product, matrix(3), dropout_, microbatch).view(x.sizes())};
}

HeadSegment::HeadSegment(std::string name, std::vector<Parameter> parameters, double eps,
                         std::shared_ptr<BatchSlot> batch)
    : NamedSegment(std::move(name), std::move(parameters)), eps_(eps), batch_(std::move(batch)) {}

TensorList HeadSegment::forward(const TensorList& inputs, int microbatch) {
  const at::Tensor scores = widened(logits(inputs[0]));
  const at::Tensor& targets = batch_->batch.targets.at(static_cast<std::size_t>(microbatch));
  return {at::cross_entropy_loss(scores, targets.view({-1}))};
}

at::Tensor HeadSegment::logits(const at::Tensor& x) const {
  return matrix_product(rms_norm(x.view({-1, x.size(-1)}), weight(0), eps_), matrix(1));
}

}  // namespace plait
