#include "plait/model/segment_info.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <utility>

#include "plait/base/check.h"
#include "plait/base/numbers_of.h"
#include "plait/model/architectures.h"
#include "plait/model/names.h"
#include "plait/model/partition.h"

namespace plait {
namespace {

using Tensors = std::vector<ModelTensor>;
using Numbers = const MicrobatchNumbers&;

/// Scalars, losses and the like, in numbers, for each segment.
constexpr std::int64_t kSmall = 64;

// Pieces that several kinds have.

Tensors no_tensors(const SegmentPlace&) { return {}; }

void add(Tensors& tensors, const SegmentPlace& place, std::string_view rest,
         std::vector<std::int64_t> shape, Init init = Init::kNormal) {
  tensors.push_back({layer_name(place.layer, rest), std::move(shape), init});
}

/// gate, up and down of a SwiGLU whose names begin with `prefix`.
void add_swiglu(Tensors& tensors, const SegmentPlace& place, const std::string& prefix,
                std::int64_t width) {
  const std::int64_t d = place.model.hidden_size;
  tensors.push_back({prefix + "gate_proj.weight", {width, d}});
  tensors.push_back({prefix + "up_proj.weight", {width, d}});
  tensors.push_back({prefix + "down_proj.weight", {d, width}, Init::kResidual});
}

double matrix_flops(const ModelConfig& model, const Tensors& tensors, std::int64_t) {
  double flops = 0;
  for (const ModelTensor& tensor : tensors) {
    if (tensor.shape.size() < 2) continue;
    // A token goes to k experts of one size: experts 0 … k - 1 stand for them.
    const std::optional<ExpertOfLayer> expert = expert_of(tensor.name);
    if (expert && expert->expert >= model.num_experts_per_tok) continue;
    flops += 2.0 * static_cast<double>(tensor.numbers());
  }
  return flops;
}

/// Of the product, gate and up with two in between; of their input twice, and the sum.
std::int64_t swiglu_backward(std::int64_t rows, std::int64_t width, std::int64_t d) {
  return width == 0 ? 0 : rows * (5 * width + 3 * d);
}

// The embedding.

Tensors embedding_tensors(const SegmentPlace& place) {
  return {{kEmbeddingName, {place.model.vocab_size, place.model.hidden_size}}};
}

/// A look-up copies d numbers forth and adds them back.
double look_up_flops(const ModelConfig& model, const Tensors&, std::int64_t) {
  return 2.0 * static_cast<double>(model.hidden_size);
}

/// Its W is the whole backward, and what its I keeps is the gradient.
SegmentNumbers embedding_numbers(Numbers of) {
  SegmentNumbers one;
  one.output = one.gradient = of.tokens * of.d();
  one.waits = of.tokens * of.wide(of.d());
  // Rows of the table, and their gradient, before they are rounded or after.
  if (of.narrow()) one.made = one.backward = of.tokens * of.wide(of.d());
  // Its W sorts the micro-batch's tokens.
  one.weight = of.index() * of.tokens;
  return one;
}

// Attention.

Tensors attention_tensors(const SegmentPlace& place) {
  const ModelConfig& model = place.model;
  const std::int64_t d = model.hidden_size, q = model.query_size(), kv = model.key_value_size();
  Tensors tensors;
  add(tensors, place, kAttentionNormName, {d}, Init::kOnes);
  add(tensors, place, kQueryName, {q, d});
  add(tensors, place, kKeyName, {kv, d});
  add(tensors, place, kValueName, {kv, d});
  add(tensors, place, kOutputName, {d, q}, Init::kResidual);
  if (place.architecture.attention_biases) {
    add(tensors, place, kQueryBiasName, {q}, Init::kZeros);
    add(tensors, place, kKeyBiasName, {kv}, Init::kZeros);
    add(tensors, place, kValueBiasName, {kv}, Init::kZeros);
  }
  if (place.architecture.head_norms) {
    add(tensors, place, kQueryNormName, {model.head_size()}, Init::kOnes);
    add(tensors, place, kKeyNormName, {model.head_size()}, Init::kOnes);
  }
  return tensors;
}

/// Beside the matrices, scores and their product with the values, each over half of the sequence.
double attention_flops(const ModelConfig& model, const Tensors& tensors,
                       std::int64_t sequence_length) {
  return matrix_flops(model, tensors, sequence_length) +
         2.0 * 2.0 * static_cast<double>(model.query_size()) *
             static_cast<double>(sequence_length) / 2.0;
}

SegmentNumbers attention_numbers(Numbers of) {
  const std::int64_t d = of.d(), q = of.q(), kv = of.kv();
  SegmentNumbers one;
  one.input = one.kept = one.output = one.gradient = of.tokens * d;
  // The norm and its factor; q, k, v; the mixed values and a log-sum per head.
  one.inner = of.tokens * (d + 2 * q + 2 * kv + of.wide(of.model.num_attention_heads + 1)) + kSmall;
  // q and k before they were turned, a copy of the mixed values, what is dropped.
  one.made = of.tokens * (d + 2 * q + kv) + of.blocks;
  // What is dropped; of the mixed values and a copy; of q, k, v, with a copy for each head; of q
  // and k before they were turned, contiguous; of the norm's output three times and two sums; of
  // its input, the sum with the residual's, contiguous.
  one.backward = of.tokens * (9 * d + 7 * q + 3 * kv) + of.blocks;
  // Input, factor, norm, mixed values; gradients of o, q, k, v and of the norm.
  one.waits = of.tokens * (2 * d + q + of.wide(1)) + of.tokens * (2 * d + q + 2 * kv);
  // q, k and v before their biases were added.
  if (of.architecture.attention_biases) one.made += of.tokens * (q + 2 * kv);
  if (of.architecture.head_norms) {
    const std::int64_t normed = q + kv;
    const std::int64_t factors =
        of.wide(of.model.num_attention_heads + of.model.num_key_value_heads);
    // q and k before their norms, and a factor a head; then their gradients, contiguous.
    one.inner += of.tokens * (normed + factors);
    one.backward += of.tokens * 2 * normed;
    one.waits += of.tokens * (2 * normed + factors);
  }
  return one;
}

// A dense layer's SwiGLU.

Tensors mlp_tensors(const SegmentPlace& place) {
  Tensors tensors;
  add(tensors, place, kMlpNormName, {place.model.hidden_size}, Init::kOnes);
  add_swiglu(tensors, place, layer_name(place.layer, "mlp."), place.model.intermediate_size);
  return tensors;
}

SegmentNumbers mlp_numbers(Numbers of) {
  const std::int64_t d = of.d();
  const std::int64_t i = of.model.intermediate_size;
  SegmentNumbers one;
  one.input = one.kept = one.output = one.gradient = of.tokens * d;
  one.inner = of.tokens * (d + of.wide(1) + 3 * i) + kSmall;
  one.made = of.tokens * d;
  one.backward = swiglu_backward(of.tokens, i, d) + of.tokens * 4 * d;
  one.waits = of.tokens * (2 * d + of.wide(1) + i) + of.tokens * (2 * d + 2 * i);
  return one;
}

// A mixture layer: what passes between its segments is in nn/mixture.h.

/// Loads or counts of the experts, four lists.
std::int64_t small_lists(Numbers of) { return 4 * of.index() * of.model.n_routed_experts; }
/// Residual, norm, rows, weights, places.
std::int64_t before_experts(Numbers of, std::int64_t rows) {
  return of.tokens * (2 * of.d() + (of.wide(1) + of.index()) * of.k()) + rows * of.d() +
         small_lists(of);
}
std::int64_t after_experts(Numbers of, std::int64_t rows) {
  return of.tokens * (of.d() + (of.wide(1) + of.index()) * of.k()) + rows * of.d() +
         small_lists(of);
}

Tensors routed_attention_tensors(const SegmentPlace& place) {
  const ModelConfig& model = place.model;
  Tensors tensors = attention_tensors(place);
  add(tensors, place, kMlpNormName, {model.hidden_size}, Init::kOnes);
  add(tensors, place, kRouterName, {model.n_routed_experts, model.hidden_size});
  tensors.push_back({router_bias_name(place.layer),
                     {model.n_routed_experts},
                     Init::kZeros,
                     /*trained=*/false});
  return tensors;
}

SegmentNumbers routed_attention_numbers(Numbers of) {
  const std::int64_t d = of.d(), k = of.wide(of.k());
  const std::int64_t experts = of.wide(of.model.n_routed_experts);
  SegmentNumbers one = attention_numbers(of);
  // The residual, its norm and factor; scores; chosen experts, places.
  one.inner += of.tokens * (2 * d + of.wide(1) + experts + 2 * of.index() * of.k()) + kSmall;
  one.made += of.tokens * experts;
  one.output = before_experts(of, of.tokens * of.k());
  one.gradient = of.tokens * (2 * d + k) + of.tokens * of.k() * d;
  // Of logits; of the norm's output from router and rows, with two sums; of the residual, summed.
  one.backward += of.tokens * (2 * experts + k + 7 * d);
  one.waits += of.tokens * (2 * d + of.wide(1)) + of.tokens * (experts + d);
  return one;
}

// Values that an exchange reads. Gradients are those that mlp and join give back.

SegmentNumbers counts_numbers(Numbers of) {
  SegmentNumbers one;
  one.input = before_experts(of, of.tokens * of.k());
  return one;
}

SegmentNumbers dispatch_numbers(Numbers of) {
  SegmentNumbers one;
  one.input = before_experts(of, of.tokens * of.k());
  one.gradient = of.tokens * (2 * of.d() + of.wide(of.k())) + of.rows * of.d();
  one.sent = of.tokens * of.k() * of.d();
  one.sent_back = of.rows * of.d();
  return one;
}

SegmentNumbers combine_numbers(Numbers of) {
  SegmentNumbers one;
  one.input = after_experts(of, of.rows);
  one.gradient = of.tokens * (of.d() + of.wide(of.k())) + of.tokens * of.k() * of.d();
  one.sent = of.rows * of.d();
  one.sent_back = of.tokens * of.k() * of.d();
  return one;
}

Tensors experts_tensors(const SegmentPlace& place) {
  const ModelConfig& model = place.model;
  Tensors tensors;
  if (model.n_shared_experts > 0) {
    add_swiglu(tensors, place, layer_name(place.layer, "mlp.shared_experts."),
               model.moe_intermediate_size * model.n_shared_experts);
  }
  const int local = model.n_routed_experts / place.group.members;
  const int first = place.group.member * local;
  for (int expert = first; expert < first + local; ++expert) {
    add_swiglu(tensors, place, expert_name(place.layer, expert, ""), model.moe_intermediate_size);
  }
  return tensors;
}

SegmentNumbers experts_numbers(Numbers of) {
  const std::int64_t d = of.d(), k = of.wide(of.k());
  const std::int64_t width = of.model.moe_intermediate_size;
  const std::int64_t shared = width * of.model.n_shared_experts;
  const bool spread = of.members > 1;
  SegmentNumbers one;
  one.input = before_experts(of, of.rows);
  // Residual, norm and places are the attention's too, unless that runs again.
  one.kept = of.attention_again ? one.input : of.rows * d + of.tokens * k + small_lists(of);
  one.inner = 3 * of.rows * width + 3 * of.tokens * shared + kSmall;
  if (spread) one.inner += of.rows * (d + 2 * of.index());
  // Each expert's rows and all of them; the shared experts' output.
  one.made = (spread ? 2 : 1) * of.rows * d + of.tokens * d;
  one.output = of.tokens * d + of.rows * d + of.tokens * (of.wide(1) + of.index()) * of.k() +
               small_lists(of);
  one.gradient = of.tokens * (d + k) + of.rows * d;
  // Rows: sorted, cut up, put together, brought back, contiguous.
  one.backward = swiglu_backward(of.rows, width, d) + 5 * of.rows * d +
                 swiglu_backward(of.tokens, shared, d) + of.tokens * (5 * d + k);
  one.waits = of.rows * (d + width) + of.rows * (d + 2 * width);
  if (shared > 0) one.waits += of.tokens * (d + shared) + of.tokens * (d + 2 * shared);
  return one;
}

SegmentNumbers join_numbers(Numbers of) {
  const std::int64_t d = of.d(), k = of.k();
  SegmentNumbers one;
  one.input = after_experts(of, of.tokens * k);
  one.kept = one.input;
  one.inner = kSmall;
  one.made = 2 * of.tokens * d;
  one.output = one.gradient = of.tokens * d;
  one.backward = of.tokens * (3 * d + of.wide(k)) + of.tokens * k * d;
  return one;
}

// The head.

Tensors head_tensors(const SegmentPlace& place) {
  const ModelConfig& model = place.model;
  ModelTensor table{model.tie_word_embeddings ? kEmbeddingName : kHeadName,
                    {model.vocab_size, model.hidden_size}};
  table.tied = model.tie_word_embeddings;
  Tensors tensors;
  tensors.push_back({kFinalNormName, {model.hidden_size}, Init::kOnes});
  tensors.push_back(std::move(table));
  return tensors;
}

/// Per logit of the cross-entropy about 8 operations: exponential, sums, and the gradient.
double head_flops(const ModelConfig& model, const Tensors& tensors, std::int64_t sequence_length) {
  return matrix_flops(model, tensors, sequence_length) +
         8.0 * static_cast<double>(model.vocab_size);
}

SegmentNumbers head_numbers(Numbers of) {
  const std::int64_t d = of.d();
  const std::int64_t vocab = of.model.vocab_size;
  SegmentNumbers one;
  one.input = one.kept = of.tokens * d;
  one.inner = of.tokens * (d + of.wide(1 + vocab)) + kSmall;
  one.made = of.tokens * of.wide(vocab) + (of.narrow() ? of.tokens * vocab : 0);
  one.backward = of.tokens * (2 * of.wide(vocab) + 3 * d) + kSmall;
  one.waits = of.tokens * (2 * d + of.wide(1)) + of.tokens * (vocab + d);
  return one;
}

constexpr Recompute kNone = Recompute::kNone;
constexpr Lane kCompute = Lane::kCompute;
constexpr Lane kCommunication = Lane::kCommunication;

constexpr std::array kSegments = {
    SegmentInfo{SegmentKind::kEmbedding, "embedding", kNone, kCompute, true, embedding_tensors,
                look_up_flops, embedding_numbers},
    SegmentInfo{SegmentKind::kAttention, "attn", Recompute::kFull, kCompute, true,
                attention_tensors, attention_flops, attention_numbers},
    SegmentInfo{SegmentKind::kMlp, "mlp", Recompute::kSelective, kCompute, true, mlp_tensors,
                matrix_flops, mlp_numbers},
    SegmentInfo{SegmentKind::kRoutedAttention, "attn", Recompute::kFull, kCompute, true,
                routed_attention_tensors, attention_flops, routed_attention_numbers},
    SegmentInfo{SegmentKind::kCounts, "counts", kNone, kCommunication, false, no_tensors,
                matrix_flops, counts_numbers},
    SegmentInfo{SegmentKind::kDispatch, "dispatch", kNone, kCommunication, true, no_tensors,
                matrix_flops, dispatch_numbers},
    SegmentInfo{SegmentKind::kExperts, "mlp", Recompute::kSelective, kCompute, true,
                experts_tensors, matrix_flops, experts_numbers},
    SegmentInfo{SegmentKind::kCombine, "combine", kNone, kCommunication, true, no_tensors,
                matrix_flops, combine_numbers},
    SegmentInfo{SegmentKind::kJoin, "join", kNone, kCompute, true, no_tensors, matrix_flops,
                join_numbers},
    SegmentInfo{SegmentKind::kHead, "head", kNone, kCompute, true, head_tensors, head_flops,
                head_numbers},
};
static_assert(
    [] {
      for (std::size_t i = 0; i < kSegments.size(); ++i)
        if (static_cast<std::size_t>(kSegments[i].kind) != i) return false;
      return true;
    }(),
    "kSegments stands in order of SegmentKind");

constexpr std::array kDenseSegments = {SegmentKind::kAttention, SegmentKind::kMlp};
constexpr std::array kMixtureSegments = {SegmentKind::kRoutedAttention, SegmentKind::kCounts,
                                         SegmentKind::kDispatch,        SegmentKind::kExperts,
                                         SegmentKind::kCombine,         SegmentKind::kJoin};
constexpr LayerInfo kDense{"dense", kDenseSegments};
constexpr LayerInfo kMixture{"mixture of experts", kMixtureSegments};

constexpr std::array<std::string_view, 3> kRecomputeNames{"none", "selective", "full"};

}  // namespace

std::int64_t ModelTensor::numbers() const { return numbers_of(shape); }

std::span<const SegmentInfo> segment_infos() { return kSegments; }

const SegmentInfo& segment_info(SegmentKind kind) {
  return kSegments[static_cast<std::size_t>(kind)];
}

const LayerInfo& layer_info(const ModelConfig& model, int layer) {
  return is_mixture_layer(model, layer) ? kMixture : kDense;
}

std::span<const std::string_view> recompute_names() { return kRecomputeNames; }

std::set<std::string> recomputed_words(std::string_view recompute) {
  const auto* found = std::find(kRecomputeNames.begin(), kRecomputeNames.end(), recompute);
  PLAIT_CHECK(found != kRecomputeNames.end(), "one of the names of what is recomputed");
  const auto most = static_cast<Recompute>(found - kRecomputeNames.begin());
  std::set<std::string> words;
  for (const SegmentInfo& info : kSegments) {
    if (info.recompute != Recompute::kNone && info.recompute <= most) words.emplace(info.word);
  }
  return words;
}

}  // namespace plait
