#include "plait/nn/ops/gpu_kernels.h"

#include <algorithm>
#include <stdexcept>
#include <type_traits>

// Compiled by nvcc, or with tests/support/cuda_on_threads.h included before, which has a thread for
// each of a block's: so kernels are tested without a GPU.
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace {

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, void* stream,
            Arguments... arguments) {
  kernel<<<blocks, threads, 0, static_cast<cudaStream_t>(stream)>>>(arguments...);
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess)
    throw std::runtime_error(cudaGetErrorString(error));
}

}  // namespace
#endif

namespace plait::gpu_kernels {
namespace {

constexpr int kThreads = 256, kWarp = 32;

__device__ float widened(float x) { return x; }
__device__ float widened(__nv_bfloat16 x) { return __bfloat162float(x); }
template <typename T>
__device__ T narrowed(float x);
template <>
__device__ float narrowed<float>(float x) {
  return x;
}
template <>
__device__ __nv_bfloat16 narrowed<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

/// Calls launch with a number of the type.
template <typename Launch>
void of_type(Number number, const Launch& launch) {
  if (number == Number::kFloat32) {
    launch(float{});
  } else {
    launch(__nv_bfloat16{});
  }
}

unsigned blocks_for(std::int64_t count, std::int64_t of) {
  return static_cast<unsigned>((count + of - 1) / of);
}

/// Sum over the kRow neighbouring threads of a row, the same bits in all of them: within a warp by
/// a butterfly, then over warps ascending.
template <int kRow>
__device__ float row_sum(float mine) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    mine += __shfl_xor_sync(0xffffffffU, mine, offset);
  if (kRow == kWarp) return mine;
  __shared__ float warps[kThreads / kWarp];
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = mine;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < kThreads / kWarp; ++warp) sum += warps[warp];
  __syncthreads();  // the next sum writes to the same places
  return sum;
}

/// A warp a row of few columns, a block a row of many.
template <typename Launch>
void of_width(std::int64_t columns, const Launch& launch) {
  if (columns <= 512) {
    launch(std::integral_constant<int, kWarp>{});
  } else {
    launch(std::integral_constant<int, kThreads>{});
  }
}

template <typename T, int kRow>
__global__ void rms_norm_kernel(const T* x, const float* weight, float eps, std::int64_t rows,
                                std::int64_t columns, T* y, float* inverse) {
  const std::int64_t row = std::int64_t{blockIdx.x} * (kThreads / kRow) + threadIdx.x / kRow;
  if (row >= rows) return;
  const T* mine = x + row * columns;
  float sum = 0;
  for (std::int64_t i = threadIdx.x % kRow; i < columns; i += kRow)
    sum += widened(mine[i]) * widened(mine[i]);
  const float mean = row_sum<kRow>(sum) / static_cast<float>(columns);
  const float scale = 1.0f / sqrtf(mean + eps);
  for (std::int64_t i = threadIdx.x % kRow; i < columns; i += kRow)
    y[row * columns + i] = narrowed<T>(widened(mine[i]) * scale * weight[i]);
  if (threadIdx.x % kRow == 0) inverse[row] = scale;
}

template <typename T, int kRow>
__global__ void rms_norm_input_kernel(const T* dy, const T* x, const float* weight,
                                      const float* inverse, std::int64_t rows, std::int64_t columns,
                                      T* dx) {
  const std::int64_t row = std::int64_t{blockIdx.x} * (kThreads / kRow) + threadIdx.x / kRow;
  if (row >= rows) return;
  const T *above = dy + row * columns, *mine = x + row * columns;
  float sum = 0;
  for (std::int64_t i = threadIdx.x % kRow; i < columns; i += kRow)
    sum += widened(above[i]) * weight[i] * widened(mine[i]);
  const float scale = inverse[row];
  const float along = row_sum<kRow>(sum) / static_cast<float>(columns) * scale * scale;
  for (std::int64_t i = threadIdx.x % kRow; i < columns; i += kRow) {
    const float product = widened(above[i]) * weight[i];
    dx[row * columns + i] = narrowed<T>((product - widened(mine[i]) * along) * scale);
  }
}

constexpr int kChunkLanes = 8;  // threads of a block that share a column

/// partial[chunk, column] of the rows chunk, chunk + chunks, …
template <typename T>
__global__ void rms_norm_weight_kernel(const T* dy, const T* x, const float* inverse,
                                       std::int64_t rows, std::int64_t columns, float* partial) {
  __shared__ float lanes[kChunkLanes][kWarp];
  const std::int64_t column = std::int64_t{blockIdx.x} * kWarp + threadIdx.x;
  float sum = 0;
  if (column < columns) {
    const std::int64_t stride = std::int64_t{gridDim.y} * kChunkLanes;
    for (std::int64_t row = std::int64_t{blockIdx.y} * kChunkLanes + threadIdx.y; row < rows;
         row += stride) {
      const std::int64_t i = row * columns + column;
      sum += widened(dy[i]) * widened(x[i]) * inverse[row];
    }
  }
  lanes[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  for (int lane = 1; lane < kChunkLanes; ++lane) sum += lanes[lane][threadIdx.x];
  partial[std::int64_t{blockIdx.y} * columns + column] = sum;
}

__global__ void sum_chunks_kernel(const float* partial, std::int64_t chunks, std::int64_t columns,
                                  float* dw) {
  const std::int64_t column = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (column >= columns) return;
  float sum = 0;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) sum += partial[chunk * columns + column];
  dw[column] = sum;
}

template <typename T>
__global__ void rotate_kernel(const T* x, const float* cosine, const float* sine,
                              std::int64_t pairs, std::int64_t length, std::int64_t heads,
                              std::int64_t half, float direction, T* y) {
  const std::int64_t pair = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (pair >= pairs) return;
  const std::int64_t i = pair % half, head = pair / half, row = head / heads;
  const std::int64_t angle = row % length * half + i, at = head * 2 * half + i;
  const float c = cosine[angle], s = direction * sine[angle];
  const float first = widened(x[at]), second = widened(x[at + half]);
  y[at] = narrowed<T>(first * c - second * s);
  y[at + half] = narrowed<T>(second * c + first * s);
}

/// y[i] = number(i) for i below count.
template <typename T, typename Value>
__global__ void each_kernel(std::int64_t count, Value value, T* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) y[i] = narrowed<T>(value(i));
}

template <typename T, typename Value>
void each(std::int64_t count, Value value, void* y, Stream stream) {
  if (count == 0) return;
  launch(each_kernel<T, Value>, blocks_for(count, kThreads), kThreads, stream, count, value,
         static_cast<T*>(y));
}

__device__ float sigmoid(float g) { return 1.0f / (1.0f + expf(-g)); }

template <typename T>
struct Swiglu {
  const T *gate, *up;
  __device__ float operator()(std::int64_t i) const {
    const float g = widened(gate[i]);
    return g * sigmoid(g) * widened(up[i]);
  }
};

template <typename T>
struct SwigluGate {
  const T *dy, *gate, *up;
  __device__ float operator()(std::int64_t i) const {
    const float g = widened(gate[i]), s = sigmoid(g);
    return widened(dy[i]) * widened(up[i]) * s * (1.0f + g * (1.0f - s));
  }
};

template <typename T>
struct SwigluUp {
  const T *dy, *gate;
  __device__ float operator()(std::int64_t i) const {
    const float g = widened(gate[i]);
    return widened(dy[i]) * g * sigmoid(g);
  }
};

/// One of the four draws of Philox4x32-10. Source: Salmon et al., SC 2011.
__device__ std::uint32_t philox(const Mask& mask, std::uint64_t place) {
  const std::uint64_t group = place / 4;
  std::uint32_t key[2] = {static_cast<std::uint32_t>(mask.seed),
                          static_cast<std::uint32_t>(mask.seed >> 32)};
  std::uint32_t counter[4] = {
      static_cast<std::uint32_t>(group), static_cast<std::uint32_t>(group >> 32),
      static_cast<std::uint32_t>(mask.operation), static_cast<std::uint32_t>(mask.operation >> 32)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t first = std::uint64_t{0xD2511F53U} * counter[0];
    const std::uint64_t second = std::uint64_t{0xCD9E8D57U} * counter[2];
    const std::uint32_t next[4] = {static_cast<std::uint32_t>(second >> 32) ^ counter[1] ^ key[0],
                                   static_cast<std::uint32_t>(second),
                                   static_cast<std::uint32_t>(first >> 32) ^ counter[3] ^ key[1],
                                   static_cast<std::uint32_t>(first)};
    for (int i = 0; i < 4; ++i) counter[i] = next[i];
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter[place % 4];
}

template <typename T>
struct Masked {
  const T *base, *x;
  Mask mask;
  __device__ float operator()(std::int64_t i) const {
    const std::uint64_t place = mask.first + static_cast<std::uint64_t>(i);
    const float kept = philox(mask, place) < mask.dropped ? 0.0f : widened(x[i]) * mask.scale;
    // Rounded between the two, as on the CPU.
    return base == nullptr ? kept : __fadd_rn(widened(base[i]), kept);
  }
};

template <typename T>
struct WeightedSum {
  const T *base, *rows;
  const float* weights;
  const std::int64_t* places;
  std::int64_t copies, columns;
  __device__ float operator()(std::int64_t i) const {
    const std::int64_t token = i / columns, column = i % columns;
    float sum = 0;
    for (std::int64_t copy = token * copies; copy < (token + 1) * copies; ++copy) {
      const float row = widened(rows[places[copy] * columns + column]);
      sum += weights == nullptr ? row : weights[copy] * row;
    }
    return base == nullptr ? sum : widened(base[i]) + sum;
  }
};

template <typename T>
__global__ void spread_kernel(const T* dy, const float* weights, const std::int64_t* places,
                              std::int64_t count, std::int64_t copies, std::int64_t columns,
                              T* rows) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const std::int64_t copy = i / columns, column = i % columns;
  const float number = widened(dy[copy / copies * columns + column]);
  rows[places[copy] * columns + column] =
      narrowed<T>(weights == nullptr ? number : weights[copy] * number);
}

/// A warp a copy.
template <typename T>
__global__ void row_products_kernel(const T* dy, const T* rows, const std::int64_t* places,
                                    std::int64_t count, std::int64_t copies, std::int64_t columns,
                                    float* dweights) {
  const std::int64_t copy = std::int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (copy >= count) return;
  const T *above = dy + copy / copies * columns, *row = rows + places[copy] * columns;
  float sum = 0;
  for (std::int64_t i = threadIdx.x % kWarp; i < columns; i += kWarp)
    sum += widened(above[i]) * widened(row[i]);
  sum = row_sum<kWarp>(sum);
  if (threadIdx.x % kWarp == 0) dweights[copy] = sum;
}

}  // namespace

void rms_norm(Number number, const void* x, const float* weight, double eps, std::int64_t rows,
              std::int64_t columns, void* y, float* inverse, Stream stream) {
  if (rows == 0) return;
  of_type(number, [&](auto type) {
    using T = decltype(type);
    of_width(columns, [&](auto row) {
      constexpr int kRow = decltype(row)::value;
      launch(rms_norm_kernel<T, kRow>, blocks_for(rows, kThreads / kRow), kThreads, stream,
             static_cast<const T*>(x), weight, static_cast<float>(eps), rows, columns,
             static_cast<T*>(y), inverse);
    });
  });
}

void rms_norm_input(Number number, const void* dy, const void* x, const float* weight,
                    const float* inverse, std::int64_t rows, std::int64_t columns, void* dx,
                    Stream stream) {
  if (rows == 0) return;
  of_type(number, [&](auto type) {
    using T = decltype(type);
    of_width(columns, [&](auto row) {
      constexpr int kRow = decltype(row)::value;
      launch(rms_norm_input_kernel<T, kRow>, blocks_for(rows, kThreads / kRow), kThreads, stream,
             static_cast<const T*>(dy), static_cast<const T*>(x), weight, inverse, rows, columns,
             static_cast<T*>(dx));
    });
  });
}

std::int64_t weight_chunks(std::int64_t rows) {
  return std::clamp<std::int64_t>(rows / (4 * kChunkLanes), 1, 64);
}

void rms_norm_weight(Number number, const void* dy, const void* x, const float* inverse,
                     std::int64_t rows, std::int64_t columns, float* partial, float* dw,
                     Stream stream) {
  if (columns == 0) return;
  const std::int64_t chunks = weight_chunks(rows);
  of_type(number, [&](auto type) {
    using T = decltype(type);
    const dim3 grid(blocks_for(columns, kWarp), static_cast<unsigned>(chunks));
    launch(rms_norm_weight_kernel<T>, grid, dim3(kWarp, kChunkLanes), stream,
           static_cast<const T*>(dy), static_cast<const T*>(x), inverse, rows, columns, partial);
  });
  launch(sum_chunks_kernel, blocks_for(columns, kThreads), kThreads, stream, partial, chunks,
         columns, dw);
}

void rotate(Number number, const void* x, const float* cosine, const float* sine, std::int64_t rows,
            std::int64_t length, std::int64_t heads, std::int64_t half, bool back, void* y,
            Stream stream) {
  const std::int64_t pairs = rows * heads * half;
  if (pairs == 0) return;
  of_type(number, [&](auto type) {
    using T = decltype(type);
    launch(rotate_kernel<T>, blocks_for(pairs, kThreads), kThreads, stream,
           static_cast<const T*>(x), cosine, sine, pairs, length, heads, half, back ? -1.0f : 1.0f,
           static_cast<T*>(y));
  });
}

void swiglu(Number number, const void* gate, const void* up, std::int64_t count, void* y,
            Stream stream) {
  of_type(number, [&](auto type) {
    using T = decltype(type);
    each<T>(count, Swiglu<T>{static_cast<const T*>(gate), static_cast<const T*>(up)}, y, stream);
  });
}

void swiglu_gate(Number number, const void* dy, const void* gate, const void* up,
                 std::int64_t count, void* dgate, Stream stream) {
  of_type(number, [&](auto type) {
    using T = decltype(type);
    each<T>(count,
            SwigluGate<T>{static_cast<const T*>(dy), static_cast<const T*>(gate),
                          static_cast<const T*>(up)},
            dgate, stream);
  });
}

void swiglu_up(Number number, const void* dy, const void* gate, std::int64_t count, void* dup,
               Stream stream) {
  of_type(number, [&](auto type) {
    using T = decltype(type);
    each<T>(count, SwigluUp<T>{static_cast<const T*>(dy), static_cast<const T*>(gate)}, dup,
            stream);
  });
}

void masked(Number number, const void* base, const void* x, const Mask& mask, std::int64_t count,
            void* y, Stream stream) {
  of_type(number, [&](auto type) {
    using T = decltype(type);
    each<T>(count, Masked<T>{static_cast<const T*>(base), static_cast<const T*>(x), mask}, y,
            stream);
  });
}

void copy_rows(Number number, const void* h, const std::int64_t* places, std::int64_t tokens,
               std::int64_t copies, std::int64_t columns, void* rows, Stream stream) {
  spread_rows(number, h, nullptr, places, tokens, copies, columns, rows, stream);
}

void gather_rows(Number number, const void* rows, const std::int64_t* places, std::int64_t count,
                 std::int64_t columns, void* y, Stream stream) {
  add_weighted_rows(number, nullptr, rows, nullptr, places, count, 1, columns, y, stream);
}

void add_weighted_rows(Number number, const void* base, const void* rows, const float* weights,
                       const std::int64_t* places, std::int64_t tokens, std::int64_t copies,
                       std::int64_t columns, void* y, Stream stream) {
  of_type(number, [&](auto type) {
    using T = decltype(type);
    each<T>(tokens * columns,
            WeightedSum<T>{static_cast<const T*>(base), static_cast<const T*>(rows), weights,
                           places, copies, columns},
            y, stream);
  });
}

void spread_rows(Number number, const void* dy, const float* weights, const std::int64_t* places,
                 std::int64_t tokens, std::int64_t copies, std::int64_t columns, void* rows,
                 Stream stream) {
  const std::int64_t count = tokens * copies * columns;
  if (count == 0) return;
  of_type(number, [&](auto type) {
    using T = decltype(type);
    launch(spread_kernel<T>, blocks_for(count, kThreads), kThreads, stream,
           static_cast<const T*>(dy), weights, places, count, copies, columns,
           static_cast<T*>(rows));
  });
}

void row_products(Number number, const void* dy, const void* rows, const std::int64_t* places,
                  std::int64_t tokens, std::int64_t copies, std::int64_t columns, float* dweights,
                  Stream stream) {
  const std::int64_t count = tokens * copies;
  if (count == 0) return;
  of_type(number, [&](auto type) {
    using T = decltype(type);
    launch(row_products_kernel<T>, blocks_for(count, kThreads / kWarp), kThreads, stream,
           static_cast<const T*>(dy), static_cast<const T*>(rows), places, count, copies, columns,
           dweights);
  });
}

}  // namespace plait::gpu_kernels
