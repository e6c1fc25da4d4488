/// The table of architectures, and what each says of a model: its segments, each with the tensors
/// that its kind's description (model/segment_info.h) gives it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plait/model/model_config.h"
#include "plait/model/partition.h"
#include "plait/model/segment_info.h"
#include "plait/program/grid.h"
#include "plait/program/part.h"

namespace plait {

/// A key of config.json that may have one value only, because this version builds nothing else.
/// Both are JSON. `missing`: what transformers take where the key is not there.
struct FixedKey {
  std::string_view name;
  std::string_view needed;
  std::string_view missing;
};

/// How transformers call a model, and their defaults for keys that a config.json may leave out.
struct FolderForm {
  std::string_view model_type;
  std::string_view class_name;
  double rms_norm_eps = 1e-6;
  std::int64_t head_dim = 0;      ///< 0: hidden_size / num_attention_heads
  int num_key_value_heads = 0;    ///< 0: num_attention_heads
  std::string_view scoring_func;  ///< of a mixture in this form; empty: a dense model
  std::span<const FixedKey> fixed;
};

struct ArchitectureInfo {
  std::string_view name;  ///< in job.toml
  std::string_view meaning;
  bool attention_biases = false;  ///< on query, key and value
  bool head_norms = false;        ///< RMSNorm over each head's query and key
  bool mixture = false;           ///< layers from first_k_dense_replace on have experts
  std::span<const FolderForm> forms;
};

std::span<const ArchitectureInfo> architectures();
/// Null if no architecture has that name.
const ArchitectureInfo* find_architecture(std::string_view name);
/// "llama, qwen2, …"
std::string architecture_names();

struct SegmentSpec {
  SegmentKind kind = SegmentKind::kEmbedding;
  int layer = -1;  ///< -1: one of the model's ends
  std::vector<ModelTensor> tensors;

  const SegmentInfo& info() const { return segment_info(kind); }
  /// "embedding", "layers.3.attn", "head"
  std::string name() const;
  /// True if products are computed with it in the dtype of hidden states: a matrix that is neither
  /// looked up in nor the router's.
  bool rounds(const ModelTensor& tensor) const;
  /// Numbers of the largest tensor that is trained; 0 if there is none.
  std::int64_t largest() const;
};

/// The segments of a part of the model, in order. Routed experts are those of `place`: of n, the
/// n / members from member * n / members on. Requires a model that check_model() accepts. Cost:
/// O(tensors).
std::vector<SegmentSpec> segments_of(const ModelConfig& model, const StagePart& part,
                                     GroupPlace place = {});

/// Every tensor of the model, of all experts, in order of segments; a tied head's table once.
std::vector<ModelTensor> tensors_of(const ModelConfig& model);

/// What they are to the stage that runs them, in order.
std::vector<SegmentShape> shapes_of(const std::vector<SegmentSpec>& segments);

/// The parts that a stage of those segments has (program/join_segments.h).
StageShape stage_shape(const std::vector<SegmentSpec>& segments, int members,
                       const std::set<std::string>& recomputed);

}  // namespace plait
