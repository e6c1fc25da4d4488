#include "plait/nn/mixture.h"

#include <ATen/ops/argsort.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/split_with_sizes.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/core.h>

#include <numeric>
#include <utility>

#include "plait/model/part_memory.h"
#include "plait/nn/tensor_options.h"

namespace plait {

namespace {

/// Places in the list before mlp, and in the one after it.
enum Before : std::size_t { kResidual, kNormed, kRows, kWeights, kInverse, kSent, kReceived };
enum After : std::size_t { kSum, kRowsBack, kWeightsAfter, kInverseAfter, kSentAfter, kCameAfter };

/// The numbers of `counts`, added up in `parts` equal parts.
std::vector<std::int64_t> sums_of_parts(const at::Tensor& counts, int parts) {
  const std::int64_t size = counts.numel() / parts;
  const at::Tensor host = counts.cpu();
  const auto* numbers = host.const_data_ptr<std::int64_t>();
  std::vector<std::int64_t> sums;
  for (int part = 0; part < parts; ++part, numbers += size) {
    sums.push_back(std::accumulate(numbers, numbers + size, std::int64_t{0}));
  }
  return sums;
}

/// Rows that came lie by source, then by expert: where each goes to lie by expert, then by source.
struct Grouping {
  std::vector<std::int64_t> loads;  ///< by local expert
  at::Tensor places;
};

/// Reads `received` on the host: the sizes of the experts' products depend on it.
Grouping group_by_expert(const at::Tensor& received, int members, std::size_t local,
                         const at::Tensor& rows) {
  const at::Tensor host = received.cpu();
  const auto* came = host.const_data_ptr<std::int64_t>();
  Grouping grouping;
  grouping.loads.assign(local, 0);
  for (std::size_t i = 0; i < static_cast<std::size_t>(received.numel()); ++i) {
    grouping.loads[i % local] += came[i];
  }
  const auto sum = std::accumulate(grouping.loads.begin(), grouping.loads.end(), std::int64_t{0});
  if (sum != rows.size(0)) {
    throw SegmentError(
        ErrorCode::kRuntime,
        fmt::format("{} rows came for the experts, the counts say {}", rows.size(0), sum));
  }
  if (members == 1) return grouping;
  std::vector<std::int64_t> next(local);
  std::exclusive_scan(grouping.loads.begin(), grouping.loads.end(), next.begin(), std::int64_t{0});
  const at::Tensor places =
      at::empty({sum}, options_of(kDtypes.index).pinned_memory(!rows.is_cpu()));
  auto* place = places.mutable_data_ptr<std::int64_t>();
  for (std::size_t i = 0; i < static_cast<std::size_t>(received.numel()); ++i) {
    for (std::int64_t row = 0; row < came[i]; ++row) *place++ = next[i % local]++;
  }
  grouping.places = places.to(rows.device(), places.scalar_type(), /*non_blocking=*/true);
  return grouping;
}

/// Every member has as many rows to send, so those are the even share of what comes.
void check_rows_that_come(const std::string& segment, const RowSplits& splits, double token_bound) {
  const auto sum = [](const std::vector<std::int64_t>& rows) {
    return std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
  };
  const std::int64_t share = sum(splits.send), come = sum(splits.receive);
  const std::int64_t most = rows_at_bound(token_bound, share);
  if (come <= most) return;
  throw SegmentError(ErrorCode::kRuntime,
                     fmt::format("{} would bring {} rows, parallel.token_bound {} allows {} (the "
                                 "even share is {})",
                                 segment, come, token_bound, most, share));
}

at::Tensor inverse_of(const at::Tensor& places) {
  if (!places.is_cpu()) return at::argsort(places, /*stable=*/true, /*dim=*/0);
  at::Tensor inverse = at::empty_like(places);
  const auto* from = static_cast<const std::int64_t*>(places.const_data_ptr());
  auto* to = static_cast<std::int64_t*>(inverse.data_ptr());
  for (std::int64_t i = 0; i < places.numel(); ++i) to[from[i]] = i;
  return inverse;
}

}  // namespace

RouterOptions router_options(const ModelConfig& model) {
  RouterOptions options;
  options.softmax = model.scoring_func == "softmax";
  options.chosen = model.num_experts_per_tok;
  options.normalise = model.norm_topk_prob;
  options.scale = model.routed_scaling_factor;
  options.aux_loss_coefficient = model.router_aux_loss_coef;
  return options;
}

RoutedAttentionSegment::RoutedAttentionSegment(std::string name, std::vector<Parameter> parameters,
                                               Attention attention, double eps, RouterParts router)
    : NamedSegment(std::move(name), std::move(parameters)),
      attention_(std::move(attention)),
      first_(this->parameters().size() - 2),
      eps_(eps),
      router_(std::move(router)) {}

TensorList RoutedAttentionSegment::forward(const TensorList& inputs, int microbatch) {
  const at::Tensor x = attention_.add_to(inputs[0], microbatch);
  const at::Tensor normed = rms_norm(x, weight(first_), eps_);
  const Routing routing =
      route(matrix_product(widened(normed), matrix(first_ + 1)), router_.bias, router_.options);
  const at::Tensor rows = copy_rows(normed, routing.inverse);
  if (router_.loads != nullptr) router_.loads->record(router_.layer, microbatch, routing.loads);
  return {x.view(inputs[0].sizes()), normed, rows, routing.weights, routing.inverse, routing.loads,
          routing.loads.clone()};
}

ExpertsSegment::ExpertsSegment(std::string name, std::vector<Parameter> parameters, bool shared,
                               int members, Dropout dropout)
    : NamedSegment(std::move(name), std::move(parameters)),
      shared_(shared),
      members_(members),
      local_(this->parameters().size() / 3 - (shared ? 1 : 0)),
      dropout_(std::move(dropout)) {}

TensorList ExpertsSegment::forward(const TensorList& inputs, int microbatch) {
  const at::Tensor& residual = inputs[kResidual];
  const at::Tensor& came = inputs[kRows];
  const Grouping grouping = group_by_expert(inputs[kReceived], members_, local_, came);
  at::Tensor rows = members_ == 1 ? came : permute_rows(came, grouping.places);
  rows = run_experts(rows, grouping.loads);
  if (members_ > 1) rows = permute_rows(rows, inverse_of(grouping.places));
  at::Tensor sum = residual;
  if (shared_) {
    const at::Tensor product = gated_product(inputs[kNormed], matrix(0), matrix(1));
    const at::Tensor out = matrix_product(product, matrix(2)).view(residual.sizes());
    sum = dropout_.add(residual, out, microbatch);
  }
  return {sum, rows, inputs[kWeights], inputs[kInverse], inputs[kSent], inputs[kReceived]};
}

/// An expert without rows does not run: its gradient stays as it was.
at::Tensor ExpertsSegment::run_experts(const at::Tensor& rows,
                                       const std::vector<std::int64_t>& loads) const {
  std::vector<std::int64_t> sizes;
  std::vector<std::size_t> first_weights;
  for (std::size_t expert = 0; expert < loads.size(); ++expert) {
    if (loads[expert] == 0) continue;
    sizes.push_back(loads[expert]);
    first_weights.push_back(3 * (expert + (shared_ ? 1 : 0)));
  }
  if (sizes.empty()) return rows;
  TensorList parts = at::split_with_sizes(rows, sizes);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::size_t first = first_weights[i];
    parts[i] = matrix_product(gated_product(parts[i], matrix(first), matrix(first + 1)),
                              matrix(first + 2));
  }
  return at::cat(parts);
}

JoinSegment::JoinSegment(std::string name, Dropout dropout)
    : NamedSegment(std::move(name), {}), dropout_(std::move(dropout)) {}

TensorList JoinSegment::forward(const TensorList& inputs, int microbatch) {
  const at::Tensor& sum = inputs[kSum];
  const at::Tensor rows = sum.view({-1, sum.size(-1)});
  const auto added_to = [&](const at::Tensor& base) {
    return add_weighted_rows(base, inputs[kRowsBack], inputs[kWeightsAfter], inputs[kInverseAfter]);
  };
  const at::Tensor joined = dropout_.drops()
                                ? dropout_.add(rows, added_to(at::zeros_like(rows)), microbatch)
                                : added_to(rows);
  return {joined.view(sum.sizes())};
}

std::shared_ptr<Segment> make_counts_segment(std::string name, int members) {
  return std::make_shared<ExchangeSegment>(
      std::move(name), kReceived, /*has_gradient=*/false, [members](const TensorList& inputs) {
        const std::vector<std::int64_t> local(static_cast<std::size_t>(members),
                                              inputs[kReceived].numel() / members);
        return RowSplits{local, local};
      });
}

std::shared_ptr<Segment> make_dispatch_segment(std::string name, int members, double token_bound) {
  const std::string mine = name;
  const auto splits_of = [members, token_bound, mine](const TensorList& inputs) {
    RowSplits splits{sums_of_parts(inputs[kSent], members),
                     sums_of_parts(inputs[kReceived], members)};
    if (token_bound > 0) check_rows_that_come(mine, splits, token_bound);
    return splits;
  };
  auto segment =
      std::make_shared<ExchangeSegment>(std::move(name), kRows, /*has_gradient=*/true, splits_of);
  segment->bring_to_host({kSent, kReceived});
  return segment;
}

std::shared_ptr<Segment> make_combine_segment(std::string name, int members) {
  return std::make_shared<ExchangeSegment>(
      std::move(name), kRowsBack, /*has_gradient=*/true, [members](const TensorList& inputs) {
        return RowSplits{sums_of_parts(inputs[kCameAfter], members),
                         sums_of_parts(inputs[kSentAfter], members)};
      });
}

}  // namespace plait
