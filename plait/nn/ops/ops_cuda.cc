#include <c10/cuda/CUDAStream.h>

#include "plait/nn/ops/kernel_ops.h"

namespace plait {

const Ops& cuda_ops() {
  static const KernelOps ops(
      []() -> gpu_kernels::Stream { return c10::cuda::getCurrentCUDAStream().stream(); });
  return ops;
}

}  // namespace plait
