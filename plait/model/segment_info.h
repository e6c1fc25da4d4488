/// The one description of each kind of segment and of layer.
///
/// A kind's row gives its word, its tensors, floating point operations and memory, and whether it
/// computes, exchanges and may run again. Everything else that is said of a model's pieces follows:
/// counts, parts of a stage, bytes of a part, names in files (model/architectures.h,
/// model/partition.h, model/part_memory.h). A new kind is an enumerator and a row here, a place in
/// a layer's list, and its computation, which nn/model.cc makes.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plait/model/dtypes.h"
#include "plait/model/model_config.h"
#include "plait/program/grid.h"
#include "plait/program/join_segments.h"

namespace plait {

struct ArchitectureInfo;

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

/// What parallel.recompute may be, from the least to the most.
enum class Recompute : std::uint8_t { kNone, kSelective, kFull };
/// By Recompute: "none", "selective", "full".
std::span<const std::string_view> recompute_names();
/// Words of the segments that run again with `recompute`, one of recompute_names().
std::set<std::string> recomputed_words(std::string_view recompute);

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

/// Whose tensors are asked for.
struct SegmentPlace {
  const ModelConfig& model;
  const ArchitectureInfo& architecture;
  int layer = -1;  ///< -1: one of the model's ends
  GroupPlace group{};
};

/// What a segment's memory depends on, in numbers. d, k as in docs/model.md.
struct MicrobatchNumbers {
  const ModelConfig& model;
  const ArchitectureInfo& architecture;
  int members = 1;                           ///< of the expert group
  std::int64_t tokens = 0;                   ///< of the micro-batch
  std::int64_t rows = 0;                     ///< the most that come to this rank's experts
  std::int64_t blocks = 0;                   ///< scores that torch's attention has at once
  bool attention_again = false;              ///< a mixture layer's attention is recomputed
  Bytes number = bytes_of(kDtypes.compute);  ///< of one of the compute type

  /// An index: a place, a count of rows, a token.
  std::int64_t index() const { return bytes_of(kDtypes.index) / number; }
  /// What stays in float32 beside hidden states of fewer bytes: factors of norms, log-sums, scores
  /// and weights of routers, log-probabilities.
  std::int64_t wide(std::int64_t count) const {
    return count * bytes_of(kDtypes.parameter) / number;
  }
  bool narrow() const { return number < bytes_of(kDtypes.parameter); }

  std::int64_t d() const { return model.hidden_size; }
  std::int64_t k() const { return model.num_experts_per_tok; }
  std::int64_t q() const { return model.query_size(); }       ///< of a token's queries
  std::int64_t kv() const { return model.key_value_size(); }  ///< of its keys
};

/// One segment's needs for one micro-batch, in numbers of the compute type; an index counts as so
/// many of them as it has bytes for.
struct SegmentNumbers {
  std::int64_t input = 0;     ///< what it is given
  std::int64_t kept = 0;      ///< of that, what no earlier segment keeps as long
  std::int64_t inner = 0;     ///< made and kept for the backward
  std::int64_t made = 0;      ///< made by the forward and gone at its end
  std::int64_t output = 0;    ///< made for the next segment
  std::int64_t gradient = 0;  ///< of the outputs
  std::int64_t backward = 0;  ///< made by the backward, gradients of inputs too, not of weights
  std::int64_t waits = 0;     ///< from I to W: what the weights' operations saved, and gradients
  std::int64_t weight = 0;    ///< made by W beside the gradient of the largest parameter
  // Of exchanges: rows that go out, forth and back.
  std::int64_t sent = 0;
  std::int64_t sent_back = 0;
};

/// What holds for every segment of a kind.
struct SegmentInfo {
  SegmentKind kind;
  /// Last word of its name, its word in an order of a pair and in a list of what is recomputed.
  std::string_view word;
  /// The least parallel.recompute that runs its forward again; kNone: it never runs again.
  Recompute recompute = Recompute::kNone;
  Lane lane = Lane::kCompute;  ///< kCommunication: an exchange
  bool has_backward = true;
  std::vector<ModelTensor> (*tensors)(const SegmentPlace& place);
  /// Of one forward of one token: two per multiply-add, attention at half of the sequence because
  /// it is causal, the experts that one token goes to.
  double (*flops)(const ModelConfig& model, const std::vector<ModelTensor>& tensors,
                  std::int64_t sequence_length);
  SegmentNumbers (*numbers)(const MicrobatchNumbers& microbatch);

  bool exchange() const { return lane == Lane::kCommunication; }
  SegmentShape shape() const { return {std::string(word), lane, has_backward}; }
};

/// In order of SegmentKind.
std::span<const SegmentInfo> segment_infos();
const SegmentInfo& segment_info(SegmentKind kind);

/// A layer is a list of segments.
struct LayerInfo {
  std::string_view name;
  std::span<const SegmentKind> segments;
};
/// What the layer of that number is made of.
const LayerInfo& layer_info(const ModelConfig& model, int layer);

}  // namespace plait
