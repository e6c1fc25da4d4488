#include "plait/model/part_memory.h"

#include <algorithm>
#include <cmath>

namespace plait {
namespace {

constexpr Bytes kFloat = 4;
/// Scalars, losses and the like, in numbers, for each segment.
constexpr std::int64_t kSmall = 64;

/// One segment's needs for one micro-batch, in numbers of four bytes; an int64 counts as two.
struct SegmentNumbers {
  std::int64_t input = 0;     ///< what it is given
  std::int64_t kept = 0;      ///< of that, what no earlier segment keeps as long
  std::int64_t inner = 0;     ///< made and kept for the backward
  std::int64_t made = 0;      ///< made by the forward and gone at its end
  std::int64_t output = 0;    ///< made for the next segment
  std::int64_t gradient = 0;  ///< of the outputs
  std::int64_t backward = 0;  ///< made by the backward, gradients of inputs too, not of weights
  std::int64_t waits = 0;     ///< from I to W: what the weights' operations saved, and gradients
  std::int64_t weight = 0;    ///< gradient of the largest weight: each is added at once
  bool again = false;         ///< it is recomputed
};

/// Makes the numbers of the segments of one model, micro-batch and spread. d, n, kv, k, i as in
/// docs/model.md; T tokens, R rows that come.
class Segments {
 public:
  Segments(const ModelConfig& model, const MicrobatchShape& shape,
           const std::set<std::string>& recomputed)
      : model_(model),
        members_(shape.members),
        tokens_(shape.sequences * shape.sequence_length),
        d_(model.hidden_size),
        kv_(d_ / model.num_attention_heads * model.num_key_value_heads),
        k_(model.num_experts_per_tok),
        rows_(most_rows(model, shape.members, tokens_, shape.token_bound)),
        attention_again_(recomputed.contains("attn")),
        mlp_again_(recomputed.contains("mlp")) {
    // Torch's attention on CPUs: a block of scores a thread, forward; two, backward.
    const std::int64_t q = std::min<std::int64_t>(256, shape.sequence_length),
                       keys = std::min<std::int64_t>(512, shape.sequence_length + 64),
                       head = d_ / model.num_attention_heads + 64;
    blocks_ = shape.threads * (2 * q * keys + 2 * q + 2 * q * head);
  }

  /// Its W is the whole backward, and what its I keeps is the gradient.
  SegmentNumbers embedding() const {
    SegmentNumbers one;
    one.output = one.gradient = tokens_ * d_;
    one.waits = tokens_ * d_;
    one.weight = model_.vocab_size * d_ + 2 * tokens_;
    return one;
  }

  SegmentNumbers attention() const {
    SegmentNumbers one;
    one.input = one.kept = one.output = one.gradient = tokens_ * d_;
    // The norm and its factor; q, k, v; the mixed values and a log-sum per head.
    one.inner = tokens_ * (3 * d_ + 2 * kv_ + model_.num_attention_heads + 1) + kSmall;
    // q and k before they were turned, a copy of the mixed values, what is dropped.
    one.made = tokens_ * (3 * d_ + kv_) + blocks_;
    one.weight = d_ * std::max(d_, kv_);
    // What is dropped; of the mixed values and a copy; of q, k, v, with a copy for each head; of q
    // and k before they were turned, contiguous; of the norm's output three times and two sums; of
    // its input, the sum with the residual's, contiguous.
    one.backward = tokens_ * (16 * d_ + 3 * kv_) + blocks_;
    // Input, factor, norm, mixed values; gradients of o, q, k, v and of the norm.
    one.waits = tokens_ * (3 * d_ + 1) + tokens_ * (3 * d_ + 2 * kv_);
    one.again = attention_again_;
    return one;
  }

  SegmentNumbers mlp() const {
    const std::int64_t i = model_.intermediate_size;
    SegmentNumbers one;
    one.input = one.kept = one.output = one.gradient = tokens_ * d_;
    one.inner = tokens_ * (d_ + 1 + 3 * i) + kSmall;
    one.made = tokens_ * d_;
    one.weight = d_ * i;
    one.backward = swiglu_backward(tokens_, i) + tokens_ * 4 * d_;
    one.waits = tokens_ * (2 * d_ + 1 + i) + tokens_ * (2 * d_ + 2 * i);
    one.again = mlp_again_;
    return one;
  }

  SegmentNumbers head() const {
    const std::int64_t vocab = model_.vocab_size;
    SegmentNumbers one;
    one.input = one.kept = tokens_ * d_;
    one.inner = tokens_ * (d_ + 1 + vocab) + kSmall;
    one.made = tokens_ * vocab;
    one.weight = vocab * d_;
    one.backward = tokens_ * (2 * vocab + 3 * d_) + kSmall;
    one.waits = tokens_ * (2 * d_ + 1) + tokens_ * (vocab + d_);
    return one;
  }

  SegmentNumbers routed_attention() const {
    const std::int64_t experts = model_.n_routed_experts;
    SegmentNumbers one = attention();
    // The residual, its norm and factor; scores; chosen experts, places.
    one.inner += tokens_ * (2 * d_ + 1 + experts + 4 * k_) + kSmall;
    one.made += tokens_ * experts;
    one.output = before_experts(tokens_ * k_);
    one.gradient = tokens_ * (2 * d_ + k_) + tokens_ * k_ * d_;
    one.weight = std::max(one.weight, experts * d_);
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
    one.kept = attention_again_ ? one.input : rows_ * d_ + tokens_ * k_ + small_lists();
    one.inner = 3 * rows_ * width + 3 * tokens_ * shared + kSmall;
    if (spread) one.inner += rows_ * (d_ + 4);
    // Each expert's rows and all of them; the shared experts' output.
    one.made = (spread ? 2 : 1) * rows_ * d_ + tokens_ * d_;
    one.output = tokens_ * d_ + rows_ * d_ + tokens_ * 3 * k_ + small_lists();
    one.gradient = tokens_ * (d_ + k_) + rows_ * d_;
    one.weight = d_ * std::max(width, shared);
    // Rows: sorted, cut up, put together, brought back, contiguous.
    one.backward = swiglu_backward(rows_, width) + 5 * rows_ * d_ +
                   swiglu_backward(tokens_, shared) + tokens_ * (5 * d_ + k_);
    one.waits = rows_ * (d_ + width) + rows_ * (d_ + 2 * width);
    if (shared > 0) one.waits += tokens_ * (d_ + shared) + tokens_ * (d_ + 2 * shared);
    one.again = mlp_again_;
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

  // Values that an exchange reads. Gradients are those that mlp and join give back.
  PartMemory counts() const { return exchange(before_experts(tokens_ * k_), 0, 0, 0); }
  PartMemory dispatch() const {
    return exchange(before_experts(tokens_ * k_), tokens_ * (2 * d_ + k_) + rows_ * d_,
                    tokens_ * k_ * d_, rows_ * d_);
  }
  PartMemory combine() const {
    return exchange(after_experts(rows_), tokens_ * (d_ + k_) + tokens_ * k_ * d_, rows_ * d_,
                    tokens_ * k_ * d_);
  }

 private:
  /// Loads or counts of the experts, four lists of int64.
  std::int64_t small_lists() const { return 8 * std::int64_t{model_.n_routed_experts}; }
  /// Residual, norm, rows, weights, places.
  std::int64_t before_experts(std::int64_t rows) const {
    return tokens_ * (2 * d_ + 3 * k_) + rows * d_ + small_lists();
  }
  std::int64_t after_experts(std::int64_t rows) const {
    return tokens_ * (d_ + 3 * k_) + rows * d_ + small_lists();
  }
  /// Of the product, gate and up with two in between; of their input twice, and the sum.
  std::int64_t swiglu_backward(std::int64_t rows, std::int64_t width) const {
    return width == 0 ? 0 : rows * (5 * width + 3 * d_);
  }
  static PartMemory exchange(std::int64_t input, std::int64_t gradient, std::int64_t sent,
                             std::int64_t sent_back) {
    PartMemory part;
    part.input = kFloat * input;
    part.gradient = kFloat * gradient;
    part.sent = kFloat * sent;
    part.sent_back = kFloat * sent_back;
    return part;
  }

  const ModelConfig& model_;
  int members_;
  std::int64_t tokens_, d_, kv_, k_, rows_;
  bool attention_again_, mlp_again_;
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
  part.input = kFloat * segments.front().input;
  part.gradient = kFloat * segments.back().gradient;
  part.saved = kFloat * saved;
  part.recomputed = kFloat * whole;
  part.saved_for_weight = kFloat * waits;
  part.forward = kFloat * std::max<std::int64_t>(0, forward - saved - output);
  part.forward_only = kFloat * forward_only;
  part.recompute = kFloat * again;
  part.backward_input = kFloat * input;
  part.backward = kFloat * backward;
  part.backward_weight = kFloat * weight;
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
  if (part.embedding) run.push_back(make.embedding());
  for (int layer = part.first_layer; layer < part.end_layer; ++layer) {
    if (!is_mixture_layer(model, layer)) {
      run.push_back(make.attention());
      run.push_back(make.mlp());
      continue;
    }
    run.push_back(make.routed_attention());
    const SegmentNumbers experts = make.experts();
    if (shape.members == 1) {
      run.push_back(experts);
    } else {
      parts.push_back(compute_part(run, run.back().output));
      parts.push_back(make.counts());
      parts.push_back(make.dispatch());
      parts.push_back(compute_part({experts}, experts.output));
      parts.push_back(make.combine());
      run.clear();
    }
    run.push_back(make.join());
  }
  if (part.head) run.push_back(make.head());
  parts.push_back(compute_part(run, run.back().output));
  return parts;
}

}  // namespace plait
