/// Runs CUDA kernels on the CPU: a thread for each thread of a block, one block after the other.
///
/// Enough of CUDA's language for plait/nn/ops/gpu_kernels.cu, which is included behind this. What a
/// barrier or a shuffle needs is there, so a kernel that lacks one, indexes past its arrays or
/// counts its blocks wrong is found without a GPU; what only a GPU does (its memory's order within
/// a warp, its roots' and exponentials' last bits) is not.
#pragma once

#include <algorithm>
#include <array>
#include <barrier>
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

// Names are CUDA's.
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
#define __global__
#define __device__
/// Blocks run one after the other: what is static belongs to the block.
#define __shared__ static

struct dim3 {
  // Implicit, as CUDA's.
  constexpr dim3(unsigned along_x = 1, unsigned along_y = 1, unsigned along_z = 1)  // NOLINT
      : x(along_x), y(along_y), z(along_z) {}
  unsigned x, y, z;
};

namespace cuda_on_threads {

constexpr unsigned kWarp = 32;

struct Warp {
  std::barrier<> barrier{kWarp};
  std::array<float, kWarp> values{};
};

struct Block {
  explicit Block(unsigned threads)
      : barrier(static_cast<std::ptrdiff_t>(threads)), warps(threads / kWarp) {}
  std::barrier<> barrier;
  std::vector<Warp> warps;
};

/// Of the calling thread.
struct Place {
  dim3 thread, block, blocks;
  unsigned number = 0;  ///< in its block
  Block* of = nullptr;

  Warp& warp() const { return of->warps[number / kWarp]; }
};
inline thread_local Place place;

}  // namespace cuda_on_threads

#define threadIdx (::cuda_on_threads::place.thread)
#define blockIdx (::cuda_on_threads::place.block)
#define gridDim (::cuda_on_threads::place.blocks)

inline void __syncthreads() { cuda_on_threads::place.of->barrier.arrive_and_wait(); }

inline float __shfl_xor_sync(unsigned, float mine, int mask) {
  cuda_on_threads::Warp& warp = cuda_on_threads::place.warp();
  const unsigned lane = cuda_on_threads::place.number % cuda_on_threads::kWarp;
  warp.values[lane] = mine;
  warp.barrier.arrive_and_wait();
  const float others = warp.values[lane ^ static_cast<unsigned>(mask)];
  warp.barrier.arrive_and_wait();
  return others;
}

inline float __fadd_rn(float a, float b) { return a + b; }

/// The upper half of a float32.
struct __nv_bfloat16 {
  std::uint16_t bits = 0;
};
inline float __bfloat162float(__nv_bfloat16 x) {
  return std::bit_cast<float>(std::uint32_t{x.bits} << 16);
}
/// To the nearest, of two to the even one. Not for what is not a number.
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  const auto whole = std::bit_cast<std::uint32_t>(x);
  return {static_cast<std::uint16_t>((whole + 0x7fffU + ((whole >> 16) & 1U)) >> 16)};
}

// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, void* /*stream*/,
            Arguments... arguments) {
  const unsigned count = threads.x * threads.y;
  std::barrier<> between(static_cast<std::ptrdiff_t>(count));
  std::unique_ptr<cuda_on_threads::Block> block;
  const auto run = [&](unsigned number) {
    for (unsigned i = 0; i < blocks.x * blocks.y; ++i) {
      if (number == 0) block = std::make_unique<cuda_on_threads::Block>(count);
      between.arrive_and_wait();
      cuda_on_threads::place = {dim3(number % threads.x, number / threads.x),
                                dim3(i % blocks.x, i / blocks.x), blocks, number, block.get()};
      kernel(arguments...);
      // A thread that has returned is waited for by nobody.
      block->barrier.arrive_and_drop();
      block->warps[number / cuda_on_threads::kWarp].barrier.arrive_and_drop();
      between.arrive_and_wait();
    }
  };
  std::vector<std::jthread> running;
  for (unsigned number = 0; number < count; ++number) running.emplace_back(run, number);
}
