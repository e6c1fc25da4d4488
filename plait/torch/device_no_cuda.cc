#include "plait/torch/device_cuda.h"

namespace plait {

int cuda_devices() { return 0; }

Expected<void> prepare_cuda() {
  return fail(ErrorCode::kNotBuilt,
              "device is cuda, this build has no CUDA (configure with -DPLAIT_CUDA=ON)");
}

at::Device cuda_place(int) { return at::kCPU; }

Expected<std::unique_ptr<Device>> make_cuda_device(int, MemoryProbe*) {
  PLAIT_TRY_VOID(prepare_cuda());
  return nullptr;
}

}  // namespace plait
