#include "plait/torch/device_cuda.h"

namespace plait {

int cuda_devices() { return 0; }

Expected<void> prepare_cuda() {
  return fail(ErrorCode::kNotBuilt,
              "device is cuda, this version was built without CUDA (PLAIT_CUDA=ON builds it)");
}

at::Device cuda_place(int) { return at::kCPU; }

Expected<std::unique_ptr<Device>> make_cuda_device(int, MemoryProbe*) {
  PLAIT_TRY_VOID(prepare_cuda());
  return nullptr;
}

}  // namespace plait
