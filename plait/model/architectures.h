/// The table of architectures, and what each says of a model: its segments.
///
/// A segment's description gives its parameters (names, shapes, how they are initialised). Counts,
/// floating point operations, memory (model/part_memory.h), parts of a stage, the segments that nn
/// makes, and the tensors of a model's file are derived from it.
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

/// Which jobs run a segment's forward twice: with parallel.recompute "full", with "selective" too,
/// or never.
enum class Recompute : std::uint8_t { kNever, kFull, kSelective };

enum class SegmentKind : std::uint8_t {
  kEmbedding,
  kAttention,
  kMlp,
  kRoutedAttention,  ///< of a mixture layer: attention, norm and router
  kCounts,
  kDispatch,
  kExperts,
  kCombine,
  kJoin,
  kHead,
};

/// What holds for every segment of a kind.
struct SegmentInfo {
  SegmentKind kind;
  std::string_view word;  ///< last word of its name, and its word in an order of a pair
  Recompute recompute = Recompute::kNever;
  bool exchange = false;  ///< it is all communication
  bool has_gradient = true;
};

/// In order of SegmentKind.
inline constexpr std::array kSegmentInfos = {
    SegmentInfo{SegmentKind::kEmbedding, "embedding"},
    SegmentInfo{SegmentKind::kAttention, "attn", Recompute::kFull},
    SegmentInfo{SegmentKind::kMlp, "mlp", Recompute::kSelective},
    SegmentInfo{SegmentKind::kRoutedAttention, "attn", Recompute::kFull},
    SegmentInfo{SegmentKind::kCounts, "counts", Recompute::kNever, true, false},
    SegmentInfo{SegmentKind::kDispatch, "dispatch", Recompute::kNever, true},
    SegmentInfo{SegmentKind::kExperts, "mlp", Recompute::kSelective},
    SegmentInfo{SegmentKind::kCombine, "combine", Recompute::kNever, true},
    SegmentInfo{SegmentKind::kJoin, "join"},
    SegmentInfo{SegmentKind::kHead, "head"},
};
static_assert(
    [] {
      for (std::size_t i = 0; i < kSegmentInfos.size(); ++i)
        if (static_cast<std::size_t>(kSegmentInfos[i].kind) != i) return false;
      return true;
    }(),
    "kSegmentInfos stands in order of SegmentKind");

/// Words of the segments that run again with `recompute`: "none", "selective" or "full".
std::set<std::string> recomputed_words(std::string_view recompute);

enum class Init : std::uint8_t {
  kNormal,    ///< deviation 0.02
  kResidual,  ///< deviation 0.02 / sqrt(2 * num_hidden_layers): what adds to the residual
  kOnes,
  kZeros,
};

/// One tensor of the model's file.
struct ModelTensor {
  std::string name;  ///< Hugging Face's
  std::vector<std::int64_t> shape;
  Init init = Init::kNormal;
  bool trained = true;  ///< false: a buffer
  bool tied = false;    ///< the embedding's table, used a second time by the head

  std::int64_t numbers() const;
};

struct SegmentSpec {
  SegmentKind kind = SegmentKind::kEmbedding;
  int layer = -1;  ///< -1: one of the model's ends
  std::vector<ModelTensor> tensors;

  const SegmentInfo& info() const { return kSegmentInfos[static_cast<std::size_t>(kind)]; }
  /// "embedding", "layers.3.attn", "head"
  std::string name() const;
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

/// Floating point operations of one forward of one token through the segment: two per multiply-add,
/// attention at half of the sequence because it is causal, the experts that one token goes to.
double forward_flops_per_token(const ModelConfig& model, const SegmentSpec& segment,
                               std::int64_t sequence_length);

/// The parts that a stage of those segments has: neighbours that compute are one part, an exchange
/// is one of its own; with one member exchanges are left out. `recomputed`: words of segments.
StageShape stage_shape(const std::vector<SegmentSpec>& segments, int members,
                       const std::set<std::string>& recomputed);

}  // namespace plait
