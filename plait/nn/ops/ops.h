/// The operations of the model, without graph: tensors in, tensors out.
///
/// Each has three forms. ops_for(x) says which: float32 on the CPU goes to loops of our own, whose
/// bits do not depend on threads; float32 and bfloat16 on a GPU to kernels of our own; every other
/// dtype and device, and what has no kernel, to torch's functions. All compute in float32 at least
/// (float64 stays float64) and return what their header names. On a GPU none uses atomic additions,
/// so their bits repeat.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace plait {

struct RouterOptions {
  bool softmax = false;     ///< scores are softmax(logits), else sigmoid(logits)
  std::int64_t chosen = 1;  ///< experts a token, k
  bool normalise = false;   ///< the weights of a token add up to `scale`
  double scale = 1.0;
  double aux_loss_coefficient = 0.0;
};

/// A dropout mask as it is drawn: number i of a tensor is dropped if draw `first` + i of
/// Philox4x32-10 with key `seed` is below share * 2^32. Of the counter, the low half is the draw's
/// number divided by 4, the high half is `operation`.
struct DropMask {
  std::uint64_t seed = 0;
  std::uint64_t operation = 0;
  std::int64_t first = 0;
  double share = 0.0;  ///< in [0, 1); what stays is scaled by 1 / (1 - share)
};

/// Tensors are contiguous, of one device. T tokens, k experts a token, E experts, C columns.
/// "As x": of x's shape and dtype.
class Ops {
 public:
  virtual ~Ops() = default;

  struct Normed {
    at::Tensor y;        ///< as x
    at::Tensor inverse;  ///< [rows], float32 at least
  };
  /// y = x * inverse * weight, inverse = 1 / sqrt(mean(x²) + eps) for each row of the last
  /// dimension.
  virtual Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) const = 0;
  /// As dy: inverse * (dy * weight - x * inverse² * mean(dy * weight * x)).
  virtual at::Tensor rms_norm_input(const at::Tensor& dy, const at::Tensor& x,
                                    const at::Tensor& weight, const at::Tensor& inverse) const = 0;
  /// As weight: sum over rows of dy * x * inverse.
  virtual at::Tensor rms_norm_weight(const at::Tensor& dy, const at::Tensor& x,
                                     const at::Tensor& weight, const at::Tensor& inverse) const = 0;

  /// As x: x + bias, a number for each column.
  virtual at::Tensor add_bias(const at::Tensor& x, const at::Tensor& bias) const = 0;
  /// [columns], of dy's dtype: sum over rows.
  virtual at::Tensor bias_gradient(const at::Tensor& dy, std::int64_t columns) const = 0;

  /// x [sequences, length, heads, 2 * half], cosine and sine [at least length, half]: turns pairs
  /// (x[i], x[i + half]) by the angle of their position, or back. As x.
  virtual at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine,
                            bool back) const = 0;

  /// As gate: silu(gate) * up, silu(g) = g / (1 + exp(-g)).
  virtual at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) const = 0;
  /// As gate: dy * up * silu'(gate).
  virtual at::Tensor swiglu_gate(const at::Tensor& dy, const at::Tensor& gate,
                                 const at::Tensor& up) const = 0;
  /// As gate: dy * silu(gate).
  virtual at::Tensor swiglu_up(const at::Tensor& dy, const at::Tensor& gate) const = 0;

  /// As x: base + x * mask; without `base`, which is undefined then, x * mask.
  virtual at::Tensor masked(const at::Tensor& base, const at::Tensor& x,
                            const DropMask& mask) const = 0;

  /// int64 [T, k]: of scores [T, E] the k with the greatest score + bias, greatest first, equal
  /// ones by number; what is not a number comes last.
  virtual at::Tensor choose(const at::Tensor& scores, const at::Tensor& bias,
                            std::int64_t k) const = 0;
  struct Places {
    at::Tensor inverse;  ///< int64 [T * k]: the row of each copy, by expert and then by token
    at::Tensor loads;    ///< int64 [E]: rows of each expert
  };
  virtual Places place(const at::Tensor& chosen, std::int64_t experts) const = 0;
  /// [T, k], of the scores' dtype: scale * scores of the chosen, if options.normalise divided by
  /// their sum + 1e-20.
  virtual at::Tensor weigh(const at::Tensor& scores, const at::Tensor& chosen,
                           const RouterOptions& options) const = 0;
  /// Of the logits, as scores [T, E]; dweights [T, k]. With the auxiliary loss (mixture_kernels.h).
  virtual at::Tensor router_gradient(const at::Tensor& dweights, const at::Tensor& scores,
                                     const at::Tensor& chosen, const at::Tensor& loads,
                                     const RouterOptions& options) const = 0;

  /// As rows: result[places[r]] = rows[r], or back, result[r] = rows[places[r]].
  virtual at::Tensor move_rows(const at::Tensor& rows, const at::Tensor& places,
                               bool back) const = 0;
  /// [T * k, C]: copy j of row t of h becomes row inverse[t * k + j].
  virtual at::Tensor copy_rows(const at::Tensor& h, const at::Tensor& inverse) const = 0;
  /// [T, C]: row t is the sum of rows[inverse[t * k + j]] over j.
  virtual at::Tensor sum_rows(const at::Tensor& rows, const at::Tensor& inverse,
                              std::int64_t tokens) const = 0;
  /// As base [T, C]: base[t] + sum over j of weights[t, j] * rows[inverse[t * k + j]].
  virtual at::Tensor add_weighted_rows(const at::Tensor& base, const at::Tensor& rows,
                                       const at::Tensor& weights,
                                       const at::Tensor& inverse) const = 0;
  /// [T * k, C], of dy's dtype: row inverse[t * k + j] is weights[t, j] * dy[t].
  virtual at::Tensor spread_rows(const at::Tensor& dy, const at::Tensor& weights,
                                 const at::Tensor& inverse) const = 0;
  /// As weights: [t, j] is the sum over columns of dy[t] * rows[inverse[t * k + j]].
  virtual at::Tensor row_products(const at::Tensor& dy, const at::Tensor& rows,
                                  const at::Tensor& weights, const at::Tensor& inverse) const = 0;
};

/// Needs float32 on the CPU; tensors of places are int64.
const Ops& cpu_ops();
const Ops& generic_ops();
/// Needs float32 or bfloat16 on a GPU; in a build without CUDA generic_ops().
const Ops& cuda_ops();

inline const Ops& ops_for(const at::Tensor& x) {
  const bool whole = x.scalar_type() == at::kFloat;
  if (x.is_cpu()) return whole ? cpu_ops() : generic_ops();
  return whole || x.scalar_type() == at::kBFloat16 ? cuda_ops() : generic_ops();
}

}  // namespace plait
