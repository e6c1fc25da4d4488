/// Dropout of a residual branch, by a generator that counts.
///
/// Whether a number is dropped depends on the run's seed, the step, the layer, the branch and the
/// number's place in the step's whole batch, and on nothing else: not on order, threads,
/// recomputation, or how the batch is cut over micro-batches and ranks. No generator has a state.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "plait/nn/batch.h"

namespace plait {

/// The branches of a layer whose outputs are dropped.
enum class Branch : std::uint8_t { kAttention, kMlp };

/// Names one mask. Different keys of one step draw from counters that never meet.
struct MaskKey {
  std::uint64_t seed = 0;
  int step = 0;
  int layer = 0;
  Branch branch = Branch::kAttention;
  std::int64_t first = 0;  ///< place in the whole batch's tensor of this tensor's first number
};

/// base + x with each number of x dropped (times 0) with probability `share`, in [0, 1), or scaled
/// by 1 / (1 - share). Shapes are equal. One node of the graph, which draws the mask again for its
/// backward and keeps nothing.
at::Tensor add_dropped(const at::Tensor& base, const at::Tensor& x, double share, MaskKey key);

/// Dropout of one branch of one layer. Drops where the batch has what masks are drawn from, so not
/// in validation, nor with share 0 or without a batch.
class Dropout {
 public:
  Dropout() = default;
  Dropout(double share, int layer, Branch branch, std::shared_ptr<const BatchSlot> batch)
      : share_(share), layer_(layer), branch_(branch), batch_(std::move(batch)) {}

  bool drops() const { return share_ > 0 && batch_ != nullptr && batch_->batch.draws.has_value(); }
  /// base + x, dropped if drops(). Both hold a row of x.size(-1) numbers for each token of the
  /// micro-batch, in order.
  at::Tensor add(const at::Tensor& base, const at::Tensor& x, int microbatch) const;

 private:
  double share_ = 0.0;
  int layer_ = 0;
  Branch branch_ = Branch::kAttention;
  std::shared_ptr<const BatchSlot> batch_;
};

}  // namespace plait
