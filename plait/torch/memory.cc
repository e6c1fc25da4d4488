#include "plait/torch/memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <new>
#include <unordered_map>
#include <utility>

#include "plait/base/check.h"

namespace plait {

// Counts its own users, the handle and every block, so that blocks may outlive the handle.
struct MemoryAccount::Counter {
  std::atomic<Bytes> live{0};
  std::atomic<Bytes> peak{0};
  std::atomic<std::int64_t> users{1};

  void charge(Bytes bytes) {
    users.fetch_add(1, std::memory_order_relaxed);
    const Bytes now_live = live.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    Bytes highest = peak.load(std::memory_order_relaxed);
    while (now_live > highest &&
           !peak.compare_exchange_weak(highest, now_live, std::memory_order_relaxed)) {
    }
  }
  void credit(Bytes bytes) {
    live.fetch_sub(bytes, std::memory_order_relaxed);
    leave();
  }
  void leave() {
    if (users.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
};

namespace {

using Counter = MemoryAccount::Counter;

// 64 bytes before the data, so that the data keeps torch's alignment.
struct alignas(64) BlockHeader {
  Counter* counter;
  Bytes bytes;
};
static_assert(sizeof(BlockHeader) == 64);

Counter*& current_counter() {
  thread_local Counter* counter = nullptr;
  return counter;
}

BlockHeader* header_of(void* data) {
  return reinterpret_cast<BlockHeader*>(static_cast<char*>(data) - sizeof(BlockHeader));
}

void free_block(void* data) {
  if (data == nullptr) return;
  BlockHeader* header = header_of(data);
  if (header->counter != nullptr) header->counter->credit(header->bytes);
  c10::free_cpu(header);
}

/// Blocks of other allocators, by address.
struct CountedBlocks {
  struct Block {
    Counter* counter;
    Bytes bytes;
  };
  std::mutex mutex;
  std::unordered_map<const void*, Block> blocks;
};

/// Never destroyed: tensors may be freed while the process ends.
CountedBlocks& counted_blocks() {
  static auto* blocks = new CountedBlocks;
  return *blocks;
}

class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &free_block, c10::Device(c10::DeviceType::CPU)};
    void* block = c10::alloc_cpu(bytes + sizeof(BlockHeader));
    auto* header = new (block) BlockHeader{current_counter(), static_cast<Bytes>(bytes)};
    if (header->counter != nullptr) header->counter->charge(header->bytes);
    void* data = header + 1;
    return {data, data, &free_block, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_block; }
  void copy_data(void* destination, const void* source, std::size_t count) const override {
    default_copy_data(destination, source, count);
  }
};

}  // namespace

MemoryAccount::MemoryAccount() : counter_(new Counter) {}
MemoryAccount::~MemoryAccount() { counter_->leave(); }

Bytes MemoryAccount::live() const { return counter_->live.load(std::memory_order_relaxed); }
Bytes MemoryAccount::peak() const { return counter_->peak.load(std::memory_order_relaxed); }
Bytes MemoryAccount::take_peak() {
  return counter_->peak.exchange(live(), std::memory_order_relaxed);
}
void MemoryAccount::reset_peak() { counter_->peak.store(live(), std::memory_order_relaxed); }

ScopedAccount::ScopedAccount(MemoryAccount& account)
    : before_(std::exchange(current_counter(), account.counter_)) {}
ScopedAccount::~ScopedAccount() { current_counter() = before_; }

void install_counting_allocator() {
  static std::once_flag once;
  std::call_once(once, [] {
    // Torch keeps the pointer for ever; tensors may be freed while the process ends.
    static auto* allocator = new CountingAllocator;
    constexpr std::uint8_t kPriority = 255;  // over torch's default, 0
    c10::SetCPUAllocator(allocator, kPriority);
    PLAIT_CHECK(c10::GetCPUAllocator() == allocator, "torch did not take the counting allocator");
  });
}

void charge_block(const void* data, Bytes bytes) {
  Counter* counter = current_counter();
  if (counter == nullptr) return;
  counter->charge(bytes);
  CountedBlocks& counted = counted_blocks();
  const std::lock_guard lock(counted.mutex);
  counted.blocks[data] = {counter, bytes};
}

void credit_block(const void* data) {
  CountedBlocks& counted = counted_blocks();
  CountedBlocks::Block block{};
  {
    const std::lock_guard lock(counted.mutex);
    const auto found = counted.blocks.find(data);
    if (found == counted.blocks.end()) return;
    block = found->second;
    counted.blocks.erase(found);
  }
  block.counter->credit(block.bytes);
}

bool recharge(const at::Tensor& tensor, MemoryAccount& account) {
  const c10::DataPtr& pointer = tensor.storage().data_ptr();
  if (pointer.get() == nullptr) return false;
  if (pointer.get_deleter() != &free_block) {
    CountedBlocks& counted = counted_blocks();
    const std::lock_guard lock(counted.mutex);
    const auto found = counted.blocks.find(pointer.get());
    if (found == counted.blocks.end()) return false;
    account.counter_->charge(found->second.bytes);
    found->second.counter->credit(found->second.bytes);
    found->second.counter = account.counter_;
    return true;
  }
  BlockHeader* header = header_of(pointer.get());
  if (header->counter == account.counter_) return true;
  if (header->counter != nullptr) header->counter->credit(header->bytes);
  header->counter = account.counter_;
  header->counter->charge(header->bytes);
  return true;
}

}  // namespace plait
