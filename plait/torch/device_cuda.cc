#include "plait/torch/device_cuda.h"

#include <ATen/Context.h>
#include <ATen/cuda/CUDAContextLight.h>
#include <c10/core/AutogradState.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "plait/base/check.h"
#include "plait/torch/memory.h"
#include "plait/torch/tensors.h"

namespace plait {
namespace {

/// A device's events. Making one costs microseconds, so they are kept. Thread-safe.
class EventPool {
 public:
  EventPool() = default;
  EventPool(const EventPool&) = delete;
  EventPool& operator=(const EventPool&) = delete;
  ~EventPool() {
    // The process may be ending, and CUDA with it.
    for (cudaEvent_t event : free_) static_cast<void>(cudaEventDestroy(event));
  }

  /// On the calling thread's GPU.
  cudaEvent_t take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        cudaEvent_t event = free_.back();
        free_.pop_back();
        return event;
      }
    }
    cudaEvent_t event = nullptr;
    C10_CUDA_CHECK(cudaEventCreate(&event));
    return event;
  }
  void give(cudaEvent_t event) {
    const std::lock_guard lock(mutex_);
    free_.push_back(event);
  }

 private:
  std::mutex mutex_;
  std::vector<cudaEvent_t> free_;
};

/// A point of a stream. Shared with the devices that adopt its mark: it is recorded anew when the
/// last of them has forgotten it.
class Event {
 public:
  Event(std::shared_ptr<EventPool> pool, cudaStream_t stream)
      : pool_(std::move(pool)), event_(pool_->take()), stream_(stream) {
    C10_CUDA_CHECK(cudaEventRecord(event_, stream_));
  }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { pool_->give(event_); }

  cudaStream_t stream() const { return stream_; }
  bool passed() const {
    if (passed_.load(std::memory_order_relaxed)) return true;
    const cudaError_t state = cudaEventQuery(event_);
    if (state == cudaErrorNotReady) {
      static_cast<void>(cudaGetLastError());
      return false;
    }
    C10_CUDA_CHECK(state);
    passed_.store(true, std::memory_order_relaxed);
    return true;
  }
  void block(cudaStream_t stream) const {
    if (stream != stream_ && !passed_.load(std::memory_order_relaxed))
      C10_CUDA_CHECK(cudaStreamWaitEvent(stream, event_, 0));
  }
  void synchronize() const { C10_CUDA_CHECK(cudaEventSynchronize(event_)); }
  double milliseconds_since(const Event& earlier) const {
    float milliseconds = 0;
    C10_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, earlier.event_, event_));
    return static_cast<double>(milliseconds);
  }

 private:
  std::shared_ptr<EventPool> pool_;
  cudaEvent_t event_;
  cudaStream_t stream_;
  mutable std::atomic<bool> passed_ = false;
};

/// An event of a GPU on the host's clock.
struct Anchor {
  std::unique_ptr<const Event> event;
  Nanoseconds host = 0;
};

/// With the anchor of its own device, as times between events of two GPUs cannot be had.
struct TimedEvent {
  std::shared_ptr<const Event> event;
  std::shared_ptr<const Anchor> anchor;
  Nanoseconds when() const {
    return anchor->host + static_cast<Nanoseconds>(event->milliseconds_since(*anchor->event) * 1e6);
  }
};

class CudaDevice final : public Device {
 public:
  CudaDevice(c10::DeviceIndex index, MemoryProbe* memory)
      : index_(index),
        memory_(memory),
        streams_{c10::cuda::getStreamFromPool(/*isHighPriority=*/false, index),
                 c10::cuda::getStreamFromPool(/*isHighPriority=*/true, index)} {
    forget_marks();
  }
  /// What it was given may still run on memory that the caller is about to free.
  ~CudaDevice() override {
    for (const c10::cuda::CUDAStream& stream : streams_)
      static_cast<void>(cudaStreamSynchronize(stream.stream()));
  }

  bool asynchronous() const override { return true; }

  void enter(Lane lane) override {
    PLAIT_CHECK(!entered_, "lanes of an asynchronous device do not nest");
    entered_.emplace(stream(lane));
    c10::AutogradState& state = c10::AutogradState::get_tls_state();
    multithreaded_ = state.get_multithreading_enabled();
    state.set_multithreading_enabled(false);
    make_workspace(lane);
  }
  void leave(Lane) override {
    c10::AutogradState::get_tls_state().set_multithreading_enabled(multithreaded_);
    entered_.reset();
  }

  Mark record(Lane lane) override {
    std::vector<TimedEvent> events;
    events.push_back({std::make_shared<const Event>(pool_, stream(lane).stream()), anchor_});
    return add(std::move(events));
  }
  void wait(Lane lane, Mark mark) override {
    if (!mark) return;
    for (const TimedEvent& one : events_of(mark)) one.event->block(stream(lane).stream());
  }
  void hold(Lane reader, const Payload& value) override {
    const auto* tensors = dynamic_cast<const TensorPayload*>(&value);
    if (tensors == nullptr) return;
    tensors->each_tensor([&](const at::Tensor& tensor) {
      if (tensor.defined() && tensor.is_cuda())
        c10::cuda::CUDACachingAllocator::recordStream(tensor.storage().data_ptr(), stream(reader));
    });
  }
  Mark adopt(std::span<const DeviceMark> marks) override {
    std::vector<TimedEvent> events;
    for (const DeviceMark& one : marks) {
      if (!one.mark) continue;
      for (TimedEvent& event : static_cast<const CudaDevice&>(*one.device).events_of(one.mark))
        events.push_back(std::move(event));
    }
    return events.empty() ? Mark{} : add(std::move(events));
  }

  bool passed(Mark mark) const override {
    if (!mark) return true;
    const std::vector<TimedEvent> events = events_of(mark);
    return std::all_of(events.begin(), events.end(),
                       [](const TimedEvent& one) { return one.event->passed(); });
  }
  Nanoseconds when(Mark mark) const override {
    Nanoseconds last = 0;
    for (const TimedEvent& one : events_of(mark)) last = std::max(last, one.when());
    return last;
  }
  void forget_marks() override {
    const c10::cuda::CUDAGuard guard(index_);
    cudaStream_t compute = stream(Lane::kCompute).stream();
    C10_CUDA_CHECK(cudaStreamSynchronize(compute));
    auto anchor = std::make_shared<Anchor>();
    const Nanoseconds before = now();
    anchor->event = std::make_unique<const Event>(pool_, compute);
    anchor->event->synchronize();
    anchor->host = before + (now() - before) / 2;
    const std::lock_guard lock(mutex_);
    anchor_ = std::move(anchor);
    forgotten_ += marks_.size();
    marks_.clear();
  }

  MemoryProbe* memory() override { return memory_; }

 private:
  const c10::cuda::CUDAStream& stream(Lane lane) const {
    return streams_[static_cast<std::size_t>(lane)];
  }
  /// cuBLAS has a workspace for each thread and stream, 32 MB that its first product would charge
  /// to the rank's step.
  void make_workspace(Lane lane) {
    std::thread::id& owner = workspace_owners_[static_cast<std::size_t>(lane)];
    if (owner == std::this_thread::get_id()) return;
    owner = std::this_thread::get_id();
    C10_CUDA_CHECK(cudaSetDevice(index_));  // cuBLAS warns of a thread without a context
    const ScopedAccount charged(workspaces_);
    static_cast<void>(at::cuda::getCurrentCUDABlasHandle());
  }
  Mark add(std::vector<TimedEvent> events) {
    const std::lock_guard lock(mutex_);
    marks_.push_back(std::move(events));
    return {forgotten_ + marks_.size()};
  }
  std::vector<TimedEvent> events_of(Mark mark) const {
    const std::lock_guard lock(mutex_);
    PLAIT_CHECK(mark.number > forgotten_, "a mark of an earlier step");
    return marks_[mark.number - forgotten_ - 1];
  }

  const c10::DeviceIndex index_;
  MemoryProbe* const memory_;
  const std::array<c10::cuda::CUDAStream, 2> streams_;
  const std::shared_ptr<EventPool> pool_ = std::make_shared<EventPool>();
  std::shared_ptr<const Anchor> anchor_;
  std::optional<c10::cuda::CUDAStreamGuard> entered_;
  bool multithreaded_ = true;  // of the thread that has entered, before it did
  std::array<std::thread::id, 2> workspace_owners_;
  MemoryAccount workspaces_;
  mutable std::mutex mutex_;  // of what follows
  std::deque<std::vector<TimedEvent>> marks_;
  std::uint64_t forgotten_ = 0;
};

/// Called under the allocator's lock.
void count_block(const c10::CachingDeviceAllocator::TraceEntry& entry) {
  using Entry = c10::CachingDeviceAllocator::TraceEntry;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): torch keeps the address as a number
  const auto* data = reinterpret_cast<const void*>(entry.addr_);
  if (entry.action_ == Entry::ALLOC) charge_block(data, static_cast<Bytes>(entry.size_));
  if (entry.action_ == Entry::FREE_REQUESTED) credit_block(data);
}

void set_up_torch() {
  // cuBLAS asks for this where runs must repeat bit for bit; a caller's own choice stays.
  static_cast<void>(setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*replace=*/0));
  at::Context& torch = at::globalContext();
  torch.lazyInitDevice(c10::DeviceType::CUDA);
  torch.setDeterministicAlgorithms(true, /*warn_only=*/false);
  // Fills every new tensor with NaN otherwise.
  torch.setDeterministicFillUninitializedMemory(false);
  c10::cuda::CUDACachingAllocator::attachAllocatorTraceTracker(count_block);
}

}  // namespace

int cuda_devices() { return c10::cuda::device_count(); }

Expected<void> prepare_cuda() {
  if (cuda_devices() == 0)
    return fail(ErrorCode::kInvalidInput, "device is cuda, but this process sees no GPU");
  static std::once_flag once;
  try {
    std::call_once(once, set_up_torch);
  } catch (const c10::Error& error) {
    return fail(ErrorCode::kRuntime, error.what_without_backtrace());
  }
  return {};
}

at::Device cuda_place(int rank) {
  return {at::kCUDA, static_cast<c10::DeviceIndex>(rank % std::max(1, cuda_devices()))};
}

Expected<std::unique_ptr<Device>> make_cuda_device(int index, MemoryProbe* memory) {
  PLAIT_TRY_VOID(prepare_cuda());
  if (index < 0 || index >= cuda_devices()) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("GPU {} was asked for, this process sees {}", index, cuda_devices()));
  }
  try {
    return std::make_unique<CudaDevice>(static_cast<c10::DeviceIndex>(index), memory);
  } catch (const c10::Error& error) {
    return fail(ErrorCode::kRuntime, error.what_without_backtrace());
  }
}

}  // namespace plait
