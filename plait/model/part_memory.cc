#include "plait/model/part_memory.h"

#include <algorithm>
#include <cmath>

#include "plait/base/check.h"
#include "plait/model/architectures.h"
#include "plait/model/dtypes.h"

namespace plait {
namespace {

MicrobatchNumbers numbers_of(const ModelConfig& model, const MicrobatchShape& shape,
                             const std::set<std::string>& recomputed) {
  const ArchitectureInfo* architecture = find_architecture(model.architecture);
  PLAIT_CHECK(architecture != nullptr, "a model of a known architecture");
  MicrobatchNumbers numbers{model, *architecture};
  numbers.number = bytes_of(shape.compute);
  numbers.members = shape.members;
  numbers.tokens = shape.sequences * shape.sequence_length;
  numbers.rows = most_rows(model, shape.members, numbers.tokens, shape.token_bound);
  // Torch's attention on CPUs: a block of scores a thread, forward; two, backward.
  const std::int64_t queries = std::min<std::int64_t>(256, shape.sequence_length),
                     keys = std::min<std::int64_t>(512, shape.sequence_length + 64),
                     head = model.head_size() + 64;
  numbers.blocks = shape.threads * (2 * queries * keys + 2 * queries + 2 * queries * head);
  numbers.attention_again =
      runs_again(segment_info(SegmentKind::kRoutedAttention).shape(), recomputed);
  return numbers;
}

/// `number`: bytes of one.
PartMemory exchange_part(const SegmentNumbers& numbers, Bytes number) {
  PartMemory part;
  part.input = number * numbers.input;
  part.gradient = number * numbers.gradient;
  part.sent = number * numbers.sent;
  part.sent_back = number * numbers.sent_back;
  return part;
}

/// A segment of a part that computes.
struct ComputeNumbers : SegmentNumbers {
  bool again = false;  ///< it is recomputed
};

/// Of segments that run one after the other. What the last one puts out counts with its reader.
PartMemory compute_part(const std::vector<ComputeNumbers>& segments, Bytes number) {
  std::int64_t saved = 0, whole = 0, waits = 0, forward = 0, forward_only = 0, again = 0, input = 0,
               backward = 0, weight = 0;
  for (const ComputeNumbers& one : segments) {
    const std::int64_t here = one.input + one.inner + one.made + one.output;
    forward = std::max(forward, saved + here);
    forward_only = std::max(forward_only, here);
    saved += one.kept + (one.again ? 0 : one.inner);
    whole += one.kept + one.inner;
    waits += one.waits;
    if (one.again) again = std::max(again, one.made + one.output);
    input = std::max(input, one.gradient + one.backward);
    backward = std::max(backward, one.gradient + one.backward + one.weight);
    weight = std::max(weight, one.weight);
  }
  PartMemory part;
  part.input = number * segments.front().input;
  part.gradient = number * segments.back().gradient;
  part.saved = number * saved;
  part.recomputed = number * whole;
  part.saved_for_weight = number * waits;
  part.forward = number * std::max<std::int64_t>(0, forward - saved - segments.back().output);
  part.forward_only = number * forward_only;
  part.recompute = number * again;
  part.backward_input = number * input;
  part.backward = number * backward;
  part.backward_weight = number * weight;
  return part;
}

}  // namespace

std::int64_t rows_at_bound(double bound, std::int64_t even_share) {
  return static_cast<std::int64_t>(std::floor(bound * static_cast<double>(even_share)));
}

std::int64_t most_rows(const ModelConfig& model, int members, std::int64_t tokens, double bound) {
  if (model.n_routed_experts == 0) return 0;
  const std::int64_t k = model.num_experts_per_tok;
  const std::int64_t here = std::min<std::int64_t>(k, model.n_routed_experts / members);
  const std::int64_t most = members * tokens * here;
  return members == 1 || bound == 0.0 ? most : std::min(most, rows_at_bound(bound, tokens * k));
}

std::vector<PartMemory> part_memory(const ModelConfig& model, const StagePart& part,
                                    const MicrobatchShape& shape,
                                    const std::set<std::string>& recomputed) {
  const MicrobatchNumbers microbatch = numbers_of(model, shape, recomputed);
  const std::vector<SegmentSpec> segments = segments_of(model, part, {0, shape.members});
  std::vector<PartMemory> parts;
  for (const JoinedPart& joined : join_segments(shapes_of(segments), shape.members, recomputed)) {
    std::vector<ComputeNumbers> run;
    for (const std::size_t i : joined.segments) {
      const SegmentInfo& info = segments[i].info();
      ComputeNumbers one{info.numbers(microbatch)};
      const std::int64_t largest = segments[i].largest();
      one.weight += microbatch.wide(largest);          // each gradient is added at once
      if (microbatch.narrow()) one.weight += largest;  // before it is made wide
      one.again = runs_again(info.shape(), recomputed);
      run.push_back(one);
    }
    const bool exchange = joined.shape.lane == Lane::kCommunication;
    parts.push_back(exchange ? exchange_part(run.front(), microbatch.number)
                             : compute_part(run, microbatch.number));
  }
  return parts;
}

}  // namespace plait
