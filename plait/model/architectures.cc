#include "plait/model/architectures.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <utility>

#include "plait/base/check.h"
#include "plait/model/names.h"

namespace plait {
namespace {

constexpr std::array kLlamaFixed = {
    FixedKey{"hidden_act", "\"silu\"", "\"silu\""},
    FixedKey{"attention_bias", "false", "false"},
    FixedKey{"mlp_bias", "false", "false"},
    FixedKey{"partial_rotary_factor", "1.0", "1.0"},
};
constexpr std::array kMistralFixed = {
    FixedKey{"hidden_act", "\"silu\"", "\"silu\""},
    FixedKey{"sliding_window", "null", "4096"},
    FixedKey{"partial_rotary_factor", "1.0", "1.0"},
};
constexpr std::array kQwen2Fixed = {
    FixedKey{"hidden_act", "\"silu\"", "\"silu\""},
    FixedKey{"use_sliding_window", "false", "false"},
    FixedKey{"partial_rotary_factor", "1.0", "1.0"},
};
constexpr std::array kQwen3Fixed = {
    FixedKey{"hidden_act", "\"silu\"", "\"silu\""},
    FixedKey{"attention_bias", "false", "false"},
    FixedKey{"use_sliding_window", "false", "false"},
    FixedKey{"partial_rotary_factor", "1.0", "1.0"},
};
constexpr std::array kMixtureFixed = {
    FixedKey{"hidden_act", "\"silu\"", "\"silu\""},
    FixedKey{"attention_bias", "false", "false"},
    FixedKey{"mlp_bias", "false", "false"},
    FixedKey{"partial_rotary_factor", "1.0", "0.5"},
    FixedKey{"n_group", "1", "1"},
    FixedKey{"topk_group", "1", "1"},
    FixedKey{"use_qk_norm", "false", "false"},
};

constexpr std::array kLlamaForms = {
    FolderForm{"llama", "LlamaForCausalLM", 1e-6, 0, 0, {}, kLlamaFixed}};
constexpr std::array kMistralForms = {
    FolderForm{"mistral", "MistralForCausalLM", 1e-6, 0, 8, {}, kMistralFixed}};
constexpr std::array kQwen2Forms = {
    FolderForm{"qwen2", "Qwen2ForCausalLM", 1e-6, 0, 32, {}, kQwen2Fixed}};
constexpr std::array kQwen3Forms = {
    FolderForm{"qwen3", "Qwen3ForCausalLM", 1e-6, 128, 32, {}, kQwen3Fixed}};
// Transformers have no model of this shape whose router scores by softmax: such a folder gets a
// model_type that they refuse, as they would score by sigmoid.
constexpr std::array kMixtureForms = {
    FolderForm{"glm4_moe", "Glm4MoeForCausalLM", 1e-5, 0, 8, "sigmoid", kMixtureFixed},
    FolderForm{"plait_softmax_moe", "PlaitSoftmaxMoeForCausalLM", 1e-5, 0, 8, "softmax",
               kMixtureFixed}};

constexpr std::array kArchitectures = {
    ArchitectureInfo{"llama", "attention with rotary positions, SwiGLU, RMSNorm", false, false,
                     false, kLlamaForms},
    ArchitectureInfo{"mistral", "llama's layers; no sliding window", false, false, false,
                     kMistralForms},
    ArchitectureInfo{"qwen2", "llama's layers with biases on query, key and value", true, false,
                     false, kQwen2Forms},
    ArchitectureInfo{"qwen3", "llama's layers with a norm over each head's query and key", false,
                     true, false, kQwen3Forms},
    ArchitectureInfo{"deepseek-v3", "llama's attention with a mixture of experts", false, false,
                     true, kMixtureForms},
};

/// Adds tensors of one layer to a segment.
class Layer {
 public:
  Layer(const ModelConfig& model, const ArchitectureInfo& architecture, int layer, GroupPlace place)
      : model_(model), architecture_(architecture), layer_(layer), place_(place) {}

  void add_to(std::vector<SegmentSpec>& segments) const {
    if (!is_mixture_layer(model_, layer_)) {
      SegmentSpec mlp = make(SegmentKind::kMlp);
      add(mlp, kMlpNormName, {model_.hidden_size}, Init::kOnes);
      add_swiglu(mlp, layer_name(layer_, "mlp."), model_.intermediate_size);
      segments.push_back(attention(SegmentKind::kAttention));
      segments.push_back(std::move(mlp));
      return;
    }
    segments.push_back(routed_attention());
    segments.push_back(make(SegmentKind::kCounts));
    segments.push_back(make(SegmentKind::kDispatch));
    segments.push_back(experts());
    segments.push_back(make(SegmentKind::kCombine));
    segments.push_back(make(SegmentKind::kJoin));
  }

 private:
  SegmentSpec make(SegmentKind kind) const { return {kind, layer_, {}}; }

  void add(SegmentSpec& segment, std::string_view rest, std::vector<std::int64_t> shape,
           Init init = Init::kNormal) const {
    segment.tensors.push_back({layer_name(layer_, rest), std::move(shape), init});
  }
  /// gate, up and down of a SwiGLU whose names begin with `prefix`.
  void add_swiglu(SegmentSpec& segment, const std::string& prefix, std::int64_t width) const {
    const std::int64_t d = model_.hidden_size;
    segment.tensors.push_back({prefix + "gate_proj.weight", {width, d}});
    segment.tensors.push_back({prefix + "up_proj.weight", {width, d}});
    segment.tensors.push_back({prefix + "down_proj.weight", {d, width}, Init::kResidual});
  }

  SegmentSpec attention(SegmentKind kind) const {
    const std::int64_t d = model_.hidden_size, q = model_.query_size(),
                       kv = model_.key_value_size();
    SegmentSpec segment = make(kind);
    add(segment, kAttentionNormName, {d}, Init::kOnes);
    add(segment, kQueryName, {q, d});
    add(segment, kKeyName, {kv, d});
    add(segment, kValueName, {kv, d});
    add(segment, kOutputName, {d, q}, Init::kResidual);
    if (architecture_.attention_biases) {
      add(segment, kQueryBiasName, {q}, Init::kZeros);
      add(segment, kKeyBiasName, {kv}, Init::kZeros);
      add(segment, kValueBiasName, {kv}, Init::kZeros);
    }
    if (architecture_.head_norms) {
      add(segment, kQueryNormName, {model_.head_size()}, Init::kOnes);
      add(segment, kKeyNormName, {model_.head_size()}, Init::kOnes);
    }
    return segment;
  }

  SegmentSpec routed_attention() const {
    SegmentSpec segment = attention(SegmentKind::kRoutedAttention);
    add(segment, kMlpNormName, {model_.hidden_size}, Init::kOnes);
    add(segment, kRouterName, {model_.n_routed_experts, model_.hidden_size});
    segment.tensors.push_back(
        {router_bias_name(layer_), {model_.n_routed_experts}, Init::kZeros, /*trained=*/false});
    return segment;
  }

  SegmentSpec experts() const {
    SegmentSpec segment = make(SegmentKind::kExperts);
    if (model_.n_shared_experts > 0) {
      add_swiglu(segment, layer_name(layer_, "mlp.shared_experts."),
                 model_.moe_intermediate_size * model_.n_shared_experts);
    }
    const int local = model_.n_routed_experts / place_.members;
    for (int expert = place_.member * local; expert < (place_.member + 1) * local; ++expert)
      add_swiglu(segment, expert_name(layer_, expert, ""), model_.moe_intermediate_size);
    return segment;
  }

  const ModelConfig& model_;
  const ArchitectureInfo& architecture_;
  int layer_;
  GroupPlace place_;
};

SegmentSpec head_of(const ModelConfig& model) {
  SegmentSpec head{SegmentKind::kHead, -1, {}};
  head.tensors.push_back({kFinalNormName, {model.hidden_size}, Init::kOnes});
  ModelTensor table{model.tie_word_embeddings ? kEmbeddingName : kHeadName,
                    {model.vocab_size, model.hidden_size}};
  table.tied = model.tie_word_embeddings;
  head.tensors.push_back(std::move(table));
  return head;
}

}  // namespace

std::span<const ArchitectureInfo> architectures() { return kArchitectures; }

const ArchitectureInfo* find_architecture(std::string_view name) {
  const auto* found = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                                   [&](const ArchitectureInfo& one) { return one.name == name; });
  return found == kArchitectures.end() ? nullptr : found;
}

std::string architecture_names() {
  std::string names;
  for (const ArchitectureInfo& one : kArchitectures)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", one.name);
  return names;
}

std::set<std::string> recomputed_words(std::string_view recompute) {
  std::set<std::string> words;
  for (const SegmentInfo& info : kSegmentInfos) {
    const bool again = recompute == "full"
                           ? info.recompute != Recompute::kNever
                           : recompute == "selective" && info.recompute == Recompute::kSelective;
    if (again) words.emplace(info.word);
  }
  return words;
}

std::int64_t ModelTensor::numbers() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::string SegmentSpec::name() const {
  return layer < 0 ? std::string(info().word) : fmt::format("layers.{}.{}", layer, info().word);
}

std::int64_t SegmentSpec::largest() const {
  std::int64_t most = 0;
  for (const ModelTensor& tensor : tensors)
    if (tensor.trained) most = std::max(most, tensor.numbers());
  return most;
}

std::vector<SegmentSpec> segments_of(const ModelConfig& model, const StagePart& part,
                                     GroupPlace place) {
  const ArchitectureInfo* architecture = find_architecture(model.architecture);
  PLAIT_CHECK(architecture != nullptr, "a model of a known architecture");
  std::vector<SegmentSpec> segments;
  if (part.embedding) {
    segments.push_back(
        {SegmentKind::kEmbedding, -1, {{kEmbeddingName, {model.vocab_size, model.hidden_size}}}});
  }
  for (int layer = part.first_layer; layer < part.end_layer; ++layer)
    Layer(model, *architecture, layer, place).add_to(segments);
  if (part.head) segments.push_back(head_of(model));
  return segments;
}

std::vector<ModelTensor> tensors_of(const ModelConfig& model) {
  std::vector<ModelTensor> all;
  for (SegmentSpec& segment : segments_of(model, {0, model.num_hidden_layers, true, true})) {
    for (ModelTensor& tensor : segment.tensors)
      if (!tensor.tied) all.push_back(std::move(tensor));
  }
  return all;
}

double forward_flops_per_token(const ModelConfig& model, const SegmentSpec& segment,
                               std::int64_t sequence_length) {
  const auto d = static_cast<double>(model.hidden_size);
  // A look-up copies d numbers forth and adds them back.
  if (segment.kind == SegmentKind::kEmbedding) return 2.0 * d;
  double flops = 0;
  for (const ModelTensor& tensor : segment.tensors) {
    if (tensor.shape.size() < 2) continue;
    // A token goes to k experts of one size: experts 0 … k - 1 stand for them.
    const std::optional<ExpertOfLayer> expert = expert_of(tensor.name);
    if (expert && expert->expert >= model.num_experts_per_tok) continue;
    flops += 2.0 * static_cast<double>(tensor.numbers());
  }
  if (segment.kind == SegmentKind::kAttention || segment.kind == SegmentKind::kRoutedAttention) {
    // Scores and their product with the values, each over half of the sequence.
    flops += 2.0 * 2.0 * static_cast<double>(model.query_size()) *
             static_cast<double>(sequence_length) / 2.0;
  }
  // Per logit of the cross-entropy about 8 operations: exponential, sums, and the gradient.
  if (segment.kind == SegmentKind::kHead) flops += 8.0 * static_cast<double>(model.vocab_size);
  return flops;
}

StageShape stage_shape(const std::vector<SegmentSpec>& segments, int members,
                       const std::set<std::string>& recomputed) {
  StageShape shape;
  bool joins = false;  // the next segment that computes belongs to the last part
  for (const SegmentSpec& segment : segments) {
    const SegmentInfo& info = segment.info();
    if (info.exchange && members == 1) continue;
    if (!joins || info.exchange) shape.emplace_back();
    PartShape& part = shape.back();
    part.kind = info.word;
    part.recompute = part.recompute || recomputed.contains(part.kind);
    if (info.exchange) {
      part.lane = Lane::kCommunication;
      part.has_backward = info.has_gradient;
    }
    joins = !info.exchange;
  }
  std::map<std::string, int> seen;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) shape[i].unit = seen[shape[i].kind]++;
  if (!shape.empty()) shape.back().kind = "tail";
  return shape;
}

}  // namespace plait
