#include "plait/nn/model.h"

#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <fmt/core.h>

#include <cmath>
#include <utility>

#include "plait/base/check.h"
#include "plait/model/architectures.h"
#include "plait/model/model_keys.h"
#include "plait/nn/kernels.h"
#include "plait/nn/mixture.h"
#include "plait/nn/segments.h"
#include "plait/torch/dtypes.h"

namespace plait {

namespace {

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

/// The parameters of one rank's segments, made and initialised as they are described.
class Maker {
 public:
  Maker(const ModelConfig& model, std::uint64_t seed, at::ScalarType dtype, ParameterStore& store)
      : dtype_(dtype),
        residual_deviation_(kDeviation / std::sqrt(2.0 * model.num_hidden_layers)),
        seed_(seed),
        store_(store) {}

  /// In order; buffers are made too, and are not among them.
  std::vector<Parameter> parameters(const SegmentSpec& segment) {
    std::vector<Parameter> made;
    for (const ModelTensor& spec : segment.tensors) {
      if (!spec.trained) {
        store_.create_buffer(spec.name, spec.shape);
        continue;
      }
      Parameter& one = made.emplace_back();
      one.name = spec.name;
      one.tensor = spec.tied ? store_.alias(spec.name) : make(spec);
      if (dtype_ != one.tensor.scalar_type() && segment.rounds(spec))
        one.rounded = store_.keep_rounded(spec.name, dtype_);
    }
    return made;
  }

 private:
  static constexpr double kDeviation = 0.02;

  at::Tensor make(const ModelTensor& spec) {
    at::Tensor tensor = store_.create(spec.name, spec.shape);
    switch (spec.init) {
      case Init::kNormal:
        fill_normal(tensor, seed_, spec.name, kDeviation);
        break;
      case Init::kResidual:
        fill_normal(tensor, seed_, spec.name, residual_deviation_);
        break;
      case Init::kOnes:
        tensor.detach().fill_(1.0);
        break;
      case Init::kZeros:
        tensor.detach().fill_(0.0);
        break;
    }
    return tensor;
  }

  at::ScalarType dtype_;  // of products
  double residual_deviation_;
  std::uint64_t seed_;
  ParameterStore& store_;
};

/// What every segment is made with.
struct Context {
  const ModelConfig& model;
  std::shared_ptr<const RotaryTable> rotary;  ///< null in a stage without layers
  std::shared_ptr<BatchSlot> batch;
  GroupPlace place;
  std::shared_ptr<RouterLoads> loads;
  double token_bound;
  at::ScalarType dtype;  ///< of hidden states

  Dropout dropout(int layer, Branch branch) const {
    return {model.hidden_dropout, layer, branch, batch};
  }
  Attention attention(int layer, const std::vector<Parameter>& parameters) const {
    return {model, parameters, rotary, dropout(layer, Branch::kAttention)};
  }
};

std::shared_ptr<Segment> make_segment(const Context& context, const SegmentSpec& spec,
                                      std::vector<Parameter> parameters, ParameterStore& store) {
  const ModelConfig& model = context.model;
  const int members = context.place.members;
  switch (spec.kind) {
    case SegmentKind::kEmbedding:
      return std::make_shared<EmbeddingSegment>(spec.name(), std::move(parameters), context.batch,
                                                context.dtype);
    case SegmentKind::kAttention: {
      Attention attention = context.attention(spec.layer, parameters);
      return std::make_shared<AttentionSegment>(spec.name(), std::move(parameters),
                                                std::move(attention));
    }
    case SegmentKind::kMlp:
      return std::make_shared<MlpSegment>(spec.name(), std::move(parameters), model.rms_norm_eps,
                                          context.dropout(spec.layer, Branch::kMlp));
    case SegmentKind::kRoutedAttention: {
      Attention attention = context.attention(spec.layer, parameters);
      RouterParts router{spec.layer, store.find(router_bias_name(spec.layer)),
                         router_options(model), context.loads};
      return std::make_shared<RoutedAttentionSegment>(spec.name(), std::move(parameters),
                                                      std::move(attention), model.rms_norm_eps,
                                                      std::move(router));
    }
    case SegmentKind::kCounts:
      return make_counts_segment(spec.name(), members);
    case SegmentKind::kDispatch:
      return make_dispatch_segment(spec.name(), members, context.token_bound);
    case SegmentKind::kExperts:
      return std::make_shared<ExpertsSegment>(spec.name(), std::move(parameters),
                                              model.n_shared_experts > 0, members,
                                              context.dropout(spec.layer, Branch::kMlp));
    case SegmentKind::kCombine:
      return make_combine_segment(spec.name(), members);
    case SegmentKind::kJoin:
      return std::make_shared<JoinSegment>(spec.name(), context.dropout(spec.layer, Branch::kMlp));
    case SegmentKind::kHead:
      return std::make_shared<HeadSegment>(spec.name(), std::move(parameters), model.rms_norm_eps,
                                           context.batch);
  }
  PLAIT_CHECK(false, "a segment of a known kind");
}

}  // namespace

Shapes parameter_shapes(const ModelConfig& model) {
  Shapes shapes;
  for (ModelTensor& tensor : tensors_of(model))
    if (tensor.trained) shapes[tensor.name] = std::move(tensor.shape);
  return shapes;
}

Shapes buffer_shapes(const ModelConfig& model) {
  Shapes shapes;
  for (ModelTensor& tensor : tensors_of(model))
    if (!tensor.trained) shapes[tensor.name] = std::move(tensor.shape);
  return shapes;
}

Expected<std::vector<std::shared_ptr<Segment>>> make_model_segments(
    const ModelConfig& model, const StagePart& part, std::shared_ptr<BatchSlot> batch,
    std::uint64_t seed, std::int64_t max_sequence, ParameterStore& store, GroupPlace place,
    const std::shared_ptr<RouterLoads>& loads, double token_bound, Dtype compute) {
  PLAIT_TRY_VOID(check_model(model));
  PLAIT_TRY_VOID(check_place(model, place));
  if (part.head && model.tie_word_embeddings && !part.embedding &&
      !store.contains(kEmbeddingName)) {
    return fail(ErrorCode::kInvalidInput,
                "tie_word_embeddings is true, but the rank of the head does not hold the "
                "embedding; both must be on one rank");
  }
  Context context{model, nullptr,     std::move(batch),       place,
                  loads, token_bound, scalar_type_of(compute)};
  if (part.layers() > 0) {
    const RotaryTable table =
        make_rotary_table(max_sequence, model.head_size(), model.rope_theta, model.rope_scaling);
    context.rotary = std::make_shared<const RotaryTable>(
        RotaryTable{table.cosine.to(store.device()), table.sine.to(store.device())});
  }
  Maker maker(model, seed, context.dtype, store);
  std::vector<std::shared_ptr<Segment>> segments;
  for (const SegmentSpec& spec : segments_of(model, part, place))
    segments.push_back(make_segment(context, spec, maker.parameters(spec), store));
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
