#include "plait/model/part_memory.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "plait/model/architectures.h"
#include "plait/model/dtypes.h"

namespace plait {
namespace {

constexpr Bytes kNumber = bytes_of(kDtypes.compute);
/// Of an index: a place, a count of rows, a token.
constexpr std::int64_t kIndex = bytes_of(kDtypes.index) / kNumber;
/// Scalars, losses and the like, in numbers, for each segment.
constexpr std::int64_t kSmall = 64;

/// One segment's needs for one micro-batch, in numbers of kNumber bytes; an index counts as kIndex.
struct SegmentNumbers {
  std::int64_t input = 0;     ///< what it is given
  std::int64_t kept = 0;      ///< of that, what no earlier segment keeps as long
  std::int64_t inner = 0;     ///< made and kept for the backward
  std::int64_t made = 0;      ///< made by the forward and gone at its end
  std::int64_t output = 0;    ///< made for the next segment
  std::int64_t gradient = 0;  ///< of the outputs
  std::int64_t backward = 0;  ///< made by the backward, gradients of inputs too, not of weights
  std::int64_t waits = 0;     ///< from I to W: what the weights' operations saved, and gradients
  std::int64_t weight = 0;    ///< gradient of the largest parameter: each is added at once
  bool again = false;         ///< it is recomputed
};

/// Makes the numbers of the segments of one model, micro-batch and spread. d, k as in
/// docs/model.md; q and kv are the numbers of a token's queries and keys. T tokens, R rows that
/// come.
class Segments {
 public:
  Segments(const ModelConfig& model, const MicrobatchShape& shape,
           const std::set<std::string>& recomputed)
      : model_(model),
        members_(shape.members),
        tokens_(shape.sequences * shape.sequence_length),
        d_(model.hidden_size),
        q_(model.query_size()),
        kv_(model.key_value_size()),
        k_(model.num_experts_per_tok),
        rows_(most_rows(model, shape.members, tokens_, shape.token_bound)),
        recomputed_(recomputed) {
    // Torch's attention on CPUs: a block of scores a thread, forward; two, backward.
    const std::int64_t queries = std::min<std::int64_t>(256, shape.sequence_length),
                       keys = std::min<std::int64_t>(512, shape.sequence_length + 64),
                       head = model.head_size() + 64;
    blocks_ = shape.threads * (2 * queries * keys + 2 * queries + 2 * queries * head);
  }

  /// Of a segment that computes.
  SegmentNumbers compute(const SegmentSpec& segment) const {
    SegmentNumbers one = numbers(segment.kind);
    one.weight = segment.largest();
    // The embedding's W sorts the micro-batch's tokens.
    if (segment.kind == SegmentKind::kEmbedding) one.weight += kIndex * tokens_;
    one.again = recomputed_.contains(std::string(segment.info().word));
    return one;
  }

  // Values that an exchange reads. Gradients are those that mlp and join give back.
  PartMemory exchange(SegmentKind kind) const {
    switch (kind) {
      case SegmentKind::kCounts:
        return exchange(before_experts(tokens_ * k_), 0, 0, 0);
      case SegmentKind::kDispatch:
        return exchange(before_experts(tokens_ * k_), tokens_ * (2 * d_ + k_) + rows_ * d_,
                        tokens_ * k_ * d_, rows_ * d_);
      default:  // combine
        return exchange(after_experts(rows_), tokens_ * (d_ + k_) + tokens_ * k_ * d_, rows_ * d_,
                        tokens_ * k_ * d_);
    }
  }

 private:
  SegmentNumbers numbers(SegmentKind kind) const {
    switch (kind) {
      case SegmentKind::kEmbedding:
        return embedding();
      case SegmentKind::kAttention:
        return attention();
      case SegmentKind::kMlp:
        return mlp();
      case SegmentKind::kRoutedAttention:
        return routed_attention();
      case SegmentKind::kExperts:
        return experts();
      case SegmentKind::kJoin:
        return join();
      default:
        return head();
    }
  }

  /// Its W is the whole backward, and what its I keeps is the gradient.
  SegmentNumbers embedding() const {
    SegmentNumbers one;
    one.output = one.gradient = tokens_ * d_;
    one.waits = tokens_ * d_;
    return one;
  }

  SegmentNumbers attention() const {
    SegmentNumbers one;
    one.input = one.kept = one.output = one.gradient = tokens_ * d_;
    // The norm and its factor; q, k, v; the mixed values and a log-sum per head.
    one.inner = tokens_ * (d_ + 2 * q_ + 2 * kv_ + model_.num_attention_heads + 1) + kSmall;
    // q and k before they were turned, a copy of the mixed values, what is dropped.
    one.made = tokens_ * (d_ + 2 * q_ + kv_) + blocks_;
    // What is dropped; of the mixed values and a copy; of q, k, v, with a copy for each head; of q
    // and k before they were turned, contiguous; of the norm's output three times and two sums; of
    // its input, the sum with the residual's, contiguous.
    one.backward = tokens_ * (9 * d_ + 7 * q_ + 3 * kv_) + blocks_;
    // Input, factor, norm, mixed values; gradients of o, q, k, v and of the norm.
    one.waits = tokens_ * (2 * d_ + q_ + 1) + tokens_ * (2 * d_ + q_ + 2 * kv_);
    const ArchitectureInfo& architecture = *find_architecture(model_.architecture);
    // q, k and v before their biases were added.
    if (architecture.attention_biases) one.made += tokens_ * (q_ + 2 * kv_);
    if (architecture.head_norms) {
      const std::int64_t normed = q_ + kv_;
      const std::int64_t factors = model_.num_attention_heads + model_.num_key_value_heads;
      // q and k before their norms, and a factor a head; then their gradients, contiguous.
      one.inner += tokens_ * (normed + factors);
      one.backward += tokens_ * 2 * normed;
      one.waits += tokens_ * (2 * normed + factors);
    }
    return one;
  }

  SegmentNumbers mlp() const {
    const std::int64_t i = model_.intermediate_size;
    SegmentNumbers one;
    one.input = one.kept = one.output = one.gradient = tokens_ * d_;
    one.inner = tokens_ * (d_ + 1 + 3 * i) + kSmall;
    one.made = tokens_ * d_;
    one.backward = swiglu_backward(tokens_, i) + tokens_ * 4 * d_;
    one.waits = tokens_ * (2 * d_ + 1 + i) + tokens_ * (2 * d_ + 2 * i);
    return one;
  }

  SegmentNumbers head() const {
    const std::int64_t vocab = model_.vocab_size;
    SegmentNumbers one;
    one.input = one.kept = tokens_ * d_;
    one.inner = tokens_ * (d_ + 1 + vocab) + kSmall;
    one.made = tokens_ * vocab;
    one.backward = tokens_ * (2 * vocab + 3 * d_) + kSmall;
    one.waits = tokens_ * (2 * d_ + 1) + tokens_ * (vocab + d_);
    return one;
  }

  SegmentNumbers routed_attention() const {
    const std::int64_t experts = model_.n_routed_experts;
    SegmentNumbers one = attention();
    // The residual, its norm and factor; scores; chosen experts, places.
    one.inner += tokens_ * (2 * d_ + 1 + experts + 2 * kIndex * k_) + kSmall;
    one.made += tokens_ * experts;
    one.output = before_experts(tokens_ * k_);
    one.gradient = tokens_ * (2 * d_ + k_) + tokens_ * k_ * d_;
    // Of logits; of the norm's output from router and rows, with two sums; of the residual, summed.
    one.backward += tokens_ * (2 * experts + k_ + 7 * d_);
    one.waits += tokens_ * (2 * d_ + 1) + tokens_ * (experts + d_);
    return one;
  }

  SegmentNumbers experts() const {
    const std::int64_t width = model_.moe_intermediate_size;
    const std::int64_t shared = width * model_.n_shared_experts;
    const bool spread = members_ > 1;
    SegmentNumbers one;
    one.input = before_experts(rows_);
    // Residual, norm and places are the attention's too, unless that runs again.
    const bool attention_again = recomputed_.contains(
        std::string(kSegmentInfos[static_cast<std::size_t>(SegmentKind::kAttention)].word));
    one.kept = attention_again ? one.input : rows_ * d_ + tokens_ * k_ + small_lists();
    one.inner = 3 * rows_ * width + 3 * tokens_ * shared + kSmall;
    if (spread) one.inner += rows_ * (d_ + 2 * kIndex);
    // Each expert's rows and all of them; the shared experts' output.
    one.made = (spread ? 2 : 1) * rows_ * d_ + tokens_ * d_;
    one.output = tokens_ * d_ + rows_ * d_ + tokens_ * (1 + kIndex) * k_ + small_lists();
    one.gradient = tokens_ * (d_ + k_) + rows_ * d_;
    // Rows: sorted, cut up, put together, brought back, contiguous.
    one.backward = swiglu_backward(rows_, width) + 5 * rows_ * d_ +
                   swiglu_backward(tokens_, shared) + tokens_ * (5 * d_ + k_);
    one.waits = rows_ * (d_ + width) + rows_ * (d_ + 2 * width);
    if (shared > 0) one.waits += tokens_ * (d_ + shared) + tokens_ * (d_ + 2 * shared);
    return one;
  }

  SegmentNumbers join() const {
    SegmentNumbers one;
    one.input = after_experts(tokens_ * k_);
    one.kept = one.input;
    one.inner = kSmall;
    one.made = 2 * tokens_ * d_;
    one.output = one.gradient = tokens_ * d_;
    one.backward = tokens_ * (3 * d_ + k_) + tokens_ * k_ * d_;
    return one;
  }

  /// Loads or counts of the experts, four lists.
  std::int64_t small_lists() const { return 4 * kIndex * model_.n_routed_experts; }
  /// Residual, norm, rows, weights, places.
  std::int64_t before_experts(std::int64_t rows) const {
    return tokens_ * (2 * d_ + (1 + kIndex) * k_) + rows * d_ + small_lists();
  }
  std::int64_t after_experts(std::int64_t rows) const {
    return tokens_ * (d_ + (1 + kIndex) * k_) + rows * d_ + small_lists();
  }
  /// Of the product, gate and up with two in between; of their input twice, and the sum.
  std::int64_t swiglu_backward(std::int64_t rows, std::int64_t width) const {
    return width == 0 ? 0 : rows * (5 * width + 3 * d_);
  }
  static PartMemory exchange(std::int64_t input, std::int64_t gradient, std::int64_t sent,
                             std::int64_t sent_back) {
    PartMemory part;
    part.input = kNumber * input;
    part.gradient = kNumber * gradient;
    part.sent = kNumber * sent;
    part.sent_back = kNumber * sent_back;
    return part;
  }

  const ModelConfig& model_;
  int members_;
  std::int64_t tokens_, d_, q_, kv_, k_, rows_;
  const std::set<std::string>& recomputed_;
  std::int64_t blocks_;
};

/// Of segments that run one after the other. `output`: what the reader of the part's value counts.
PartMemory compute_part(const std::vector<SegmentNumbers>& segments, std::int64_t output) {
  std::int64_t saved = 0, whole = 0, waits = 0, forward = 0, forward_only = 0, again = 0, input = 0,
               backward = 0, weight = 0;
  for (const SegmentNumbers& one : segments) {
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
  part.input = kNumber * segments.front().input;
  part.gradient = kNumber * segments.back().gradient;
  part.saved = kNumber * saved;
  part.recomputed = kNumber * whole;
  part.saved_for_weight = kNumber * waits;
  part.forward = kNumber * std::max<std::int64_t>(0, forward - saved - output);
  part.forward_only = kNumber * forward_only;
  part.recompute = kNumber * again;
  part.backward_input = kNumber * input;
  part.backward = kNumber * backward;
  part.backward_weight = kNumber * weight;
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
  const Segments make(model, shape, recomputed);
  std::vector<PartMemory> parts;
  std::vector<SegmentNumbers> run;  // of the compute part being made
  const auto end_run = [&] {
    if (!run.empty()) parts.push_back(compute_part(run, run.back().output));
    run.clear();
  };
  for (const SegmentSpec& segment : segments_of(model, part, {0, shape.members})) {
    if (!segment.info().exchange) {
      run.push_back(make.compute(segment));
    } else if (shape.members > 1) {
      end_run();
      parts.push_back(make.exchange(segment.kind));
    }
  }
  end_run();
  return parts;
}

}  // namespace plait
