/// Operations of the mixture of experts: the router, and rows moved to experts and back.
///
/// Rows are moved by permutations and added in a fixed order, so results do not depend on threads.
/// Each operation is one node of the graph; numbers of rows are int64. Dtypes and devices: nn/ops.
#pragma once

#include <ATen/core/Tensor.h>

#include "plait/nn/ops/ops.h"

namespace plait {

/// Where a token's copies go: copy j of token t, t * k + j of T * k, becomes row inverse[t * k + j]
/// of the rows sorted by expert, tokens ascending within an expert.
struct Routing {
  at::Tensor weights;  ///< [tokens, k], with graph
  at::Tensor inverse;  ///< int64 [tokens * k]
  at::Tensor loads;    ///< int64 [experts]: rows of each
};

/// From logits [tokens, experts]: the k experts with the greatest score + bias (float32 [experts],
/// no gradient), greatest first, equal ones by number; weights are scale * scores, divided by their
/// sum + 1e-20 if normalised. The backward adds the gradient of the auxiliary loss
/// coefficient * sum_i f_i P_i, f_i = experts * loads_i / (k tokens), P_i the mean over tokens of
/// score i divided by the token's sum of scores.
Routing route(const at::Tensor& logits, const at::Tensor& bias, const RouterOptions& options);

/// k copies of each row of h [tokens, columns], in the places of `inverse`.
at::Tensor copy_rows(const at::Tensor& h, const at::Tensor& inverse);

/// base + the sum of each token's copies in `rows` by weight, copies ascending. base [tokens,
/// columns], weights [tokens, k].
at::Tensor add_weighted_rows(const at::Tensor& base, const at::Tensor& rows,
                             const at::Tensor& weights, const at::Tensor& inverse);

/// A permutation of rows: row r becomes row places[r].
at::Tensor permute_rows(const at::Tensor& rows, const at::Tensor& places);

}  // namespace plait
