#include "plait/nn/ops/generic.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/diff.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <array>
#include <cmath>
#include <limits>
#include <utility>

namespace plait {
namespace {

/// As Hugging Face has it.
constexpr double kEpsilon = 1e-20;

/// In which sums and products are computed.
at::ScalarType wide_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}
at::Tensor wide(const at::Tensor& x) { return x.to(wide_type(x)); }

/// Of a permutation. A sort of integers repeats bit for bit on a GPU, and waits for nobody.
at::Tensor inverted(const at::Tensor& permutation) {
  return at::argsort(permutation, /*stable=*/true, /*dim=*/0, /*descending=*/false);
}

/// Numbers below 2^32 in int64.
constexpr std::int64_t kLow = 0xffffffff;

std::array<std::int64_t, 2> halves(std::uint64_t number) {
  return {static_cast<std::int64_t>(number & 0xffffffffU), static_cast<std::int64_t>(number >> 32)};
}

/// Low and high half of a * b, without a sum that leaves 63 bits.
std::array<at::Tensor, 2> product(const at::Tensor& a, std::int64_t b) {
  const at::Tensor low = a.bitwise_and(0xffff) * b;
  const at::Tensor middle = a.bitwise_right_shift(16) * b + low.bitwise_right_shift(16);
  return {middle.bitwise_and(0xffff).bitwise_left_shift(16) + low.bitwise_and(0xffff),
          middle.bitwise_right_shift(16)};
}

/// Draws 4 * first … of Philox4x32-10, [groups, 4], as at::Philox4_32 makes them.
at::Tensor philox(const DropMask& mask, std::int64_t first, std::int64_t groups,
                  c10::Device device) {
  const at::Tensor group =
      at::arange(first, first + groups, at::TensorOptions(at::kLong).device(device));
  const auto [operation, step] = halves(mask.operation);
  std::array<at::Tensor, 4> counter{group.bitwise_and(kLow), group.bitwise_right_shift(32),
                                    at::zeros_like(group).add_(operation),
                                    at::zeros_like(group).add_(step)};
  auto key = halves(mask.seed);
  for (int round = 0; round < 10; ++round) {
    const auto [low0, high0] = product(counter[0], 0xD2511F53);
    const auto [low1, high1] = product(counter[2], 0xCD9E8D57);
    counter = {high1.bitwise_xor(counter[1]).bitwise_xor(key[0]), low1,
               high0.bitwise_xor(counter[3]).bitwise_xor(key[1]), low0};
    key = {(key[0] + 0x9E3779B9) & kLow, (key[1] + 0xBB67AE85) & kLow};
  }
  return at::stack({counter[0], counter[1], counter[2], counter[3]}, 1);
}

/// [T, k, C]
at::Tensor by_token(const at::Tensor& rows, const at::Tensor& inverse, std::int64_t tokens) {
  return wide(rows.index_select(0, inverse)).view({tokens, -1, rows.size(1)});
}
/// The gradient of the auxiliary loss for the scores.
at::Tensor auxiliary(const at::Tensor& scores, const at::Tensor& loads,
                     const RouterOptions& options) {
  const auto tokens = static_cast<double>(scores.size(0));
  const double factor = options.aux_loss_coefficient * static_cast<double>(scores.size(1)) /
                        (static_cast<double>(options.chosen) * tokens * tokens);
  const at::Tensor pull = (loads.to(at::kDouble) * factor).to(scores.scalar_type());
  const at::Tensor sum = scores.sum(1, /*keepdim=*/true) + kEpsilon;
  return (pull - (scores * pull).sum(1, /*keepdim=*/true) / sum) / sum;
}

}  // namespace

Ops::Normed GenericOps::rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) const {
  const at::Tensor rows = wide(x);
  const at::Tensor inverse = (rows * rows).mean(-1, /*keepdim=*/true).add_(eps).rsqrt_();
  const at::Tensor y = rows * inverse * weight.to(rows.scalar_type());
  return {y.to(x.scalar_type()), inverse.view({-1})};
}

at::Tensor GenericOps::rms_norm_input(const at::Tensor& dy, const at::Tensor& x,
                                      const at::Tensor& weight, const at::Tensor& inverse) const {
  const at::Tensor rows = wide(x).view({-1, weight.numel()});
  const at::Tensor above = wide(dy).view(rows.sizes()) * weight.to(rows.scalar_type());
  const at::Tensor scale = inverse.unsqueeze(1);
  const at::Tensor along = (above * rows).mean(-1, /*keepdim=*/true) * scale * scale;
  return ((above - rows * along) * scale).to(dy.scalar_type()).view(dy.sizes());
}

at::Tensor GenericOps::rms_norm_weight(const at::Tensor& dy, const at::Tensor& x,
                                       const at::Tensor& weight, const at::Tensor& inverse) const {
  const at::Tensor rows = wide(x).view({-1, weight.numel()});
  const at::Tensor terms = wide(dy).view(rows.sizes()) * rows * inverse.unsqueeze(1);
  return terms.sum(0).to(weight.scalar_type());
}

at::Tensor GenericOps::add_bias(const at::Tensor& x, const at::Tensor& bias) const {
  return x + bias.to(x.scalar_type());
}

at::Tensor GenericOps::bias_gradient(const at::Tensor& dy, std::int64_t columns) const {
  return wide(dy).view({-1, columns}).sum(0).to(dy.scalar_type());
}

at::Tensor GenericOps::rotate(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine,
                              bool back) const {
  const std::int64_t length = x.size(1), half = x.size(3) / 2;
  const auto for_heads = [&](const at::Tensor& table) {
    return table.narrow(0, 0, length).view({1, length, 1, half}).to(wide_type(x));
  };
  const at::Tensor c = for_heads(cosine), s = back ? -for_heads(sine) : for_heads(sine);
  const at::Tensor first = wide(x.narrow(3, 0, half)), second = wide(x.narrow(3, half, half));
  return at::cat({first * c - second * s, second * c + first * s}, 3).to(x.scalar_type());
}

at::Tensor GenericOps::masked(const at::Tensor& base, const at::Tensor& x,
                              const DropMask& mask) const {
  const std::int64_t skipped = mask.first % 4, count = x.numel();
  const at::Tensor draws =
      philox(mask, mask.first / 4, (skipped + count + 3) / 4, x.device()).view({-1});
  const auto dropped = static_cast<std::int64_t>(std::llround(mask.share * 0x1p32));
  const auto scale = static_cast<float>(1.0 / (1.0 - mask.share));
  const at::Tensor stays = draws.narrow(0, skipped, count).ge(dropped).view(x.sizes());
  const at::Tensor kept = wide(x) * (stays.to(wide_type(x)) * static_cast<double>(scale));
  return (base.defined() ? wide(base) + kept : kept).to(x.scalar_type());
}

at::Tensor GenericOps::choose(const at::Tensor& scores, const at::Tensor& bias,
                              std::int64_t k) const {
  const at::Tensor sums = scores + bias.to(scores.scalar_type());
  const at::Tensor values =
      at::where(at::isnan(sums), -std::numeric_limits<double>::infinity(), sums);
  const at::Tensor order = at::argsort(values, /*stable=*/true, /*dim=*/-1, /*descending=*/true);
  return order.narrow(1, 0, k).contiguous();
}

Ops::Places GenericOps::place(const at::Tensor& chosen, std::int64_t experts) const {
  const auto [sorted, order] = at::sort(chosen.view({-1}), /*stable=*/true, /*dim=*/0,
                                        /*descending=*/false);
  const at::Tensor ends = at::searchsorted(sorted, at::arange(experts, chosen.options()),
                                           /*out_int32=*/false, /*right=*/true);
  return {inverted(order), at::diff(ends, 1, -1, /*prepend=*/at::zeros({1}, ends.options()))};
}

at::Tensor GenericOps::weigh(const at::Tensor& scores, const at::Tensor& chosen,
                             const RouterOptions& options) const {
  const at::Tensor picked = scores.gather(1, chosen);
  if (!options.normalise) return picked * options.scale;
  return picked / (picked.sum(1, /*keepdim=*/true) + kEpsilon) * options.scale;
}

at::Tensor GenericOps::router_gradient(const at::Tensor& dweights, const at::Tensor& scores,
                                       const at::Tensor& chosen, const at::Tensor& loads,
                                       const RouterOptions& options) const {
  at::Tensor above = dweights.to(scores.scalar_type()) * options.scale;
  if (options.normalise) {
    const at::Tensor picked = scores.gather(1, chosen);
    const at::Tensor sum = picked.sum(1, /*keepdim=*/true) + kEpsilon;
    above = (above - (above * picked).sum(1, /*keepdim=*/true) / sum) / sum;
  }
  // One expert of a token after the other: a scatter repeats bit for bit on a GPU only by
  // sorting.
  const at::Tensor expert = at::arange(scores.size(1), chosen.options());
  at::Tensor out = at::zeros_like(scores);
  for (std::int64_t j = 0; j < options.chosen; ++j)
    out = at::where(chosen.narrow(1, j, 1).eq(expert), above.narrow(1, j, 1), out);
  if (options.aux_loss_coefficient != 0.0) out = out + auxiliary(scores, loads, options);
  if (options.softmax) return scores * (out - (out * scores).sum(1, /*keepdim=*/true));
  return out * scores * (1 - scores);
}

at::Tensor GenericOps::move_rows(const at::Tensor& rows, const at::Tensor& places,
                                 bool back) const {
  return rows.index_select(0, back ? places : inverted(places));
}

at::Tensor GenericOps::copy_rows(const at::Tensor& h, const at::Tensor& inverse) const {
  const std::int64_t copies = inverse.numel() / h.size(0);
  return h.index_select(0, inverted(inverse).floor_divide(copies));
}

at::Tensor GenericOps::sum_rows(const at::Tensor& rows, const at::Tensor& inverse,
                                std::int64_t tokens) const {
  return by_token(rows, inverse, tokens).sum(1).to(rows.scalar_type());
}

at::Tensor GenericOps::add_weighted_rows(const at::Tensor& base, const at::Tensor& rows,
                                         const at::Tensor& weights,
                                         const at::Tensor& inverse) const {
  const at::Tensor copies = by_token(rows, inverse, base.size(0));
  const at::Tensor sum = (copies * weights.to(copies.scalar_type()).unsqueeze(2)).sum(1);
  return (wide(base) + sum).to(base.scalar_type());
}

at::Tensor GenericOps::spread_rows(const at::Tensor& dy, const at::Tensor& weights,
                                   const at::Tensor& inverse) const {
  const at::Tensor copies =
      wide(dy).unsqueeze(1) * weights.to(wide_type(dy)).unsqueeze(2);  // [T, k, C]
  return copies.to(dy.scalar_type())
      .view({inverse.numel(), dy.size(1)})
      .index_select(0, inverted(inverse));
}

at::Tensor GenericOps::row_products(const at::Tensor& dy, const at::Tensor& rows,
                                    const at::Tensor& weights, const at::Tensor& inverse) const {
  const at::Tensor copies = by_token(rows, inverse, dy.size(0));
  return (wide(dy).unsqueeze(1) * copies).sum(2).to(weights.scalar_type());
}

at::Tensor GenericOps::swiglu(const at::Tensor& gate, const at::Tensor& up) const {
  return at::silu(gate).mul_(up);
}

at::Tensor GenericOps::swiglu_gate(const at::Tensor& dy, const at::Tensor& gate,
                                   const at::Tensor& up) const {
  return at::silu_backward(at::mul(dy, up), gate);
}

at::Tensor GenericOps::swiglu_up(const at::Tensor& dy, const at::Tensor& gate) const {
  return at::silu(gate).mul_(dy);
}

const Ops& generic_ops() {
  static const GenericOps ops;
  return ops;
}

}  // namespace plait
