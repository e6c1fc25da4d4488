/// How much memory the parts of a stage need at most, from shapes.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "plait/model/dtypes.h"
#include "plait/model/model_config.h"
#include "plait/model/partition.h"
#include "plait/program/peak_memory.h"

namespace plait {

/// The most rows that a dispatch may bring to one rank: `bound` times the even share, rounded down.
std::int64_t rows_at_bound(double bound, std::int64_t even_share);

/// The most rows that a dispatch can bring to one rank's experts, if each of the `members` of its
/// group has `tokens`: every token's copies, as far as they go to different experts, come here; or
/// `bound` times the even share, which is tokens * num_experts_per_tok, if that is less and `bound`
/// is not 0.
std::int64_t most_rows(const ModelConfig& model, int members, std::int64_t tokens, double bound);

/// A micro-batch as the model sees it on one rank.
struct MicrobatchShape {
  std::int64_t sequences = 1;
  std::int64_t sequence_length = 1;
  int members = 1;           ///< of the expert group
  double token_bound = 0;    ///< 0: the worst case
  std::int64_t threads = 1;  ///< intra-op
  Dtype compute = kDtypes.compute;
};

/// By part, as TorchStage makes parts. Bounds, not estimates: what a segment makes is counted as if
/// nothing of it were freed before the segment ends. `recomputed`: words of segments that run
/// again (model/architectures.h).
std::vector<PartMemory> part_memory(const ModelConfig& model, const StagePart& part,
                                    const MicrobatchShape& shape,
                                    const std::set<std::string>& recomputed);

}  // namespace plait
