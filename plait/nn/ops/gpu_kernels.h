/// CUDA kernels of the operations in ops.h, on plain arrays, row-major. Know no torch.
///
/// Each is started on `stream` and returns at once; throws std::runtime_error if it cannot be. Sums
/// are taken in one fixed order, in float32, without atomic additions: bits repeat. Arrays of x's
/// dtype are `void`, their dtype is Number. Copies of rows: copy j of token t is row places[t *
/// copies + j].
#pragma once

#include <cstdint>

namespace plait::gpu_kernels {

enum class Number : std::uint8_t { kFloat32, kBFloat16 };
/// CUDA's stream, without its header.
using Stream = void*;

/// y = x * inverse * weight, inverse = 1 / sqrt(mean(x²) + eps) for each of `rows` of `columns`.
void rms_norm(Number number, const void* x, const float* weight, double eps, std::int64_t rows,
              std::int64_t columns, void* y, float* inverse, Stream stream);
/// dx = inverse * (dy * weight - x * inverse² * mean(dy * weight * x)).
void rms_norm_input(Number number, const void* dy, const void* x, const float* weight,
                    const float* inverse, std::int64_t rows, std::int64_t columns, void* dx,
                    Stream stream);
/// Chunks that rows are cut into for rms_norm_weight.
std::int64_t weight_chunks(std::int64_t rows);
/// dw = sum over rows of dy * x * inverse. `partial`: room for weight_chunks(rows) * columns.
void rms_norm_weight(Number number, const void* dy, const void* x, const float* inverse,
                     std::int64_t rows, std::int64_t columns, float* partial, float* dw,
                     Stream stream);

/// Turns pairs (x[i], x[i + half]) of each head by the angle of its position, or back. `rows` are
/// (sequence, position) with `heads` heads each; cosine and sine are [length, half].
void rotate(Number number, const void* x, const float* cosine, const float* sine, std::int64_t rows,
            std::int64_t length, std::int64_t heads, std::int64_t half, bool back, void* y,
            Stream stream);

/// y = silu(gate) * up, silu(g) = g / (1 + exp(-g)).
void swiglu(Number number, const void* gate, const void* up, std::int64_t count, void* y,
            Stream stream);
/// dgate = dy * up * silu'(gate); dup = dy * silu(gate).
void swiglu_gate(Number number, const void* dy, const void* gate, const void* up,
                 std::int64_t count, void* dgate, Stream stream);
void swiglu_up(Number number, const void* dy, const void* gate, std::int64_t count, void* dup,
               Stream stream);

/// ops.h's DropMask.
struct Mask {
  std::uint64_t seed, operation, first;
  std::uint64_t dropped;  ///< draws below are
  float scale;            ///< of what stays
};
/// y = base + x * mask; base null: x * mask.
void masked(Number number, const void* base, const void* x, const Mask& mask, std::int64_t count,
            void* y, Stream stream);

/// rows[place] = h[t]. `columns` of h.
void copy_rows(Number number, const void* h, const std::int64_t* places, std::int64_t tokens,
               std::int64_t copies, std::int64_t columns, void* rows, Stream stream);
/// y[r] = rows[places[r]].
void gather_rows(Number number, const void* rows, const std::int64_t* places, std::int64_t count,
                 std::int64_t columns, void* y, Stream stream);
/// y[t] = base[t] + sum over j of weights[t, j] * rows[place], j ascending; base null: 0; weights
/// null: 1.
void add_weighted_rows(Number number, const void* base, const void* rows, const float* weights,
                       const std::int64_t* places, std::int64_t tokens, std::int64_t copies,
                       std::int64_t columns, void* y, Stream stream);
/// rows[place] = weights[t, j] * dy[t]; weights null: 1.
void spread_rows(Number number, const void* dy, const float* weights, const std::int64_t* places,
                 std::int64_t tokens, std::int64_t copies, std::int64_t columns, void* rows,
                 Stream stream);
/// dweights[t, j] = sum over columns of dy[t] * rows[place].
void row_products(Number number, const void* dy, const void* rows, const std::int64_t* places,
                  std::int64_t tokens, std::int64_t copies, std::int64_t columns, float* dweights,
                  Stream stream);

}  // namespace plait::gpu_kernels
