#include "plait/model/architectures.h"

#include <fmt/format.h>

#include <algorithm>
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

std::string SegmentSpec::name() const {
  return layer < 0 ? std::string(info().word) : fmt::format("layers.{}.{}", layer, info().word);
}

bool SegmentSpec::rounds(const ModelTensor& tensor) const {
  return tensor.trained && tensor.shape.size() == 2 && kind != SegmentKind::kEmbedding &&
         !tensor.name.ends_with(kRouterName);
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
  const auto add = [&](SegmentKind kind, int layer) {
    segments.push_back(
        {kind, layer, segment_info(kind).tensors({model, *architecture, layer, place})});
  };
  if (part.embedding) add(SegmentKind::kEmbedding, -1);
  for (int layer = part.first_layer; layer < part.end_layer; ++layer) {
    for (const SegmentKind kind : layer_info(model, layer).segments) add(kind, layer);
  }
  if (part.head) add(SegmentKind::kHead, -1);
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

std::vector<SegmentShape> shapes_of(const std::vector<SegmentSpec>& segments) {
  std::vector<SegmentShape> shapes;
  for (const SegmentSpec& segment : segments) shapes.push_back(segment.info().shape());
  return shapes;
}

StageShape stage_shape(const std::vector<SegmentSpec>& segments, int members,
                       const std::set<std::string>& recomputed) {
  StageShape shape;
  for (JoinedPart& part : join_segments(shapes_of(segments), members, recomputed))
    shape.push_back(std::move(part.shape));
  return shape;
}

}  // namespace plait
