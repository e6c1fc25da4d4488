/// GPUs as devices of ranks. Knows no header of CUDA; builds without CUDA have none of them
/// (device_no_cuda.cc).
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "plait/base/error.h"
#include "plait/runtime/device.h"
#include "plait/runtime/memory_probe.h"

namespace plait {

/// How many GPUs this process sees; 0 in a build without CUDA.
int cuda_devices();

/// Errors: kNotBuilt in a build without CUDA, kInvalidInput without a GPU. The first call that
/// succeeds sets up torch for the whole process: deterministic algorithms, in which an operation
/// without a deterministic form is an error, and CUDA tensors counted by account (memory.h).
Expected<void> prepare_cuda();

/// The GPU of a rank of this process: rank modulo cuda_devices(). Ranks may share one.
at::Device cuda_place(int rank);

/// Lanes are streams of GPU `index`, marks are events from a pool. enter() sets the calling
/// thread's GPU and stream, and lets its backwards run in the thread itself, where torch would
/// give them to one thread for all ranks of the GPU. hold() records each tensor of a
/// TensorPayload (tensors.h) on the reader's stream.
///
/// when(): forget_marks(), at the beginning of a step, empties the compute stream, records an event
/// and waits for it; times are this event's on the host's clock plus event to event as CUDA
/// measures it. Error: at most half of that round trip, some 10 µs, and CUDA's resolution of 0.5
/// µs.
///
/// memory(): `memory`, which outlives the device. Bytes of a rank on a shared GPU are those of its
/// accounts (MemoryAccount): as they are asked for and freed by the host, before the allocator
/// rounds them and before streams let them go. cuBLAS's workspaces, 32 MB for each thread and lane,
/// are in no rank's accounts.
///
/// Calls throw c10::Error if the GPU has failed. Errors: those of prepare_cuda().
Expected<std::unique_ptr<Device>> make_cuda_device(int index, MemoryProbe* memory = nullptr);

}  // namespace plait
