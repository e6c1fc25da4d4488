#include "plait/torch/device_cuda.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <vector>

#include "plait/base/units.h"
#include "plait/torch/memory.h"
#include "plait/torch/tensors.h"

namespace plait {
namespace {

class CudaDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const Expected<void> ready = prepare_cuda(); !ready) GTEST_SKIP() << ready.error().text();
    device = make_cuda_device(0).value();
  }
  static at::TensorOptions floats() { return at::TensorOptions(at::kFloat).device(at::kCUDA, 0); }
  /// Keeps the lane that the thread has entered busy for milliseconds.
  static void delay() {
    at::Tensor x = at::ones({4096, 4096}, floats());
    for (int i = 0; i < 8; ++i) x = at::mm(x, x).mul_(1e-4);
  }
  static float first_of(const at::Tensor& tensor) {
    return tensor.flatten()[0].cpu().item().toFloat();
  }
  void finish(Mark mark) const {
    while (!device->passed(mark)) {
    }
  }
  std::unique_ptr<Device> device;
};

TEST_F(CudaDevice, AMarkOrdersTheWorkOfTwoLanes) {
  for (const bool waits : {true, false}) {
    at::Tensor written, read;
    Mark ready;
    {
      const LaneScope scope(device.get(), Lane::kCompute);
      written = at::zeros({1 << 20}, floats());
      finish(device->record(Lane::kCompute));
      delay();
      written.fill_(1);
      ready = device->record(Lane::kCompute);
    }
    if (waits) device->wait(Lane::kCommunication, ready);
    Mark end;
    {
      const LaneScope scope(device.get(), Lane::kCommunication);
      read = written.clone();
      end = device->record(Lane::kCommunication);
    }
    finish(ready);
    finish(end);
    // Without the wait the other lane reads before the work that it did not wait for.
    EXPECT_EQ(first_of(read), waits ? 1.0F : 0.0F);
  }
}

TEST_F(CudaDevice, HoldKeepsMemoryUntilTheReaderHasRun) {
  for (const bool holds : {true, false}) {
    Mark ready, end;
    auto value = [&] {
      const LaneScope scope(device.get(), Lane::kCompute);
      auto made = std::make_unique<Tensors>(std::vector{at::ones({1 << 20}, floats())});
      ready = device->record(Lane::kCompute);
      return made;
    }();
    at::Tensor read;
    device->wait(Lane::kCommunication, ready);
    if (holds) device->hold(Lane::kCommunication, *value);
    {
      const LaneScope scope(device.get(), Lane::kCommunication);
      delay();
      read = value->tensors.front().clone();
      end = device->record(Lane::kCommunication);
    }
    const void* freed = value->tensors.front().const_data_ptr();
    value.reset();
    {
      const LaneScope scope(device.get(), Lane::kCompute);
      const at::Tensor next = at::full({1 << 20}, 7, floats());
      EXPECT_EQ(next.const_data_ptr() == freed, !holds);
      finish(device->record(Lane::kCompute));
    }
    finish(end);
    EXPECT_EQ(first_of(read), holds ? 1.0F : 7.0F);
  }
}

TEST_F(CudaDevice, AnotherRanksMarkIsAdopted) {
  const std::unique_ptr<Device> other = make_cuda_device(0).value();
  at::Tensor written, read;
  DeviceMark theirs{device.get(), {}};
  {
    const LaneScope scope(device.get(), Lane::kCompute);
    written = at::zeros({1 << 20}, floats());
    delay();
    written.fill_(3);
    theirs.mark = device->record(Lane::kCompute);
  }
  const Mark adopted = other->adopt({&theirs, 1});
  other->wait(Lane::kCompute, adopted);
  Mark end;
  {
    const LaneScope scope(other.get(), Lane::kCompute);
    read = written.clone();
    end = other->record(Lane::kCompute);
  }
  device->forget_marks();  // the adopted mark lives on
  while (!other->passed(end)) {
  }
  EXPECT_TRUE(other->passed(adopted));
  EXPECT_LE(other->when(adopted), other->when(end));
  EXPECT_EQ(first_of(read), 3.0F);
}

TEST_F(CudaDevice, TimesAreOnTheHostsClock) {
  device->forget_marks();
  const Nanoseconds before = now();
  Mark begin, end;
  {
    const LaneScope scope(device.get(), Lane::kCompute);
    begin = device->record(Lane::kCompute);
    delay();
    end = device->record(Lane::kCompute);
  }
  finish(end);
  const Nanoseconds after = now();
  constexpr Nanoseconds kError = 1'000'000;  // of a host that was called away in between
  EXPECT_LE(before - kError, device->when(begin));
  EXPECT_LT(device->when(begin), device->when(end));
  EXPECT_LE(device->when(end), after + kError);
}

TEST_F(CudaDevice, BytesAreCountedByAccount) {
  MemoryAccount account, other;
  {
    const LaneScope scope(device.get(), Lane::kCompute);
    const ScopedAccount charged(account);
    const at::Tensor a = at::empty({1000}, floats());
    EXPECT_EQ(account.live(), 4000);
    { const at::Tensor b = at::empty({500}, floats()); }
    EXPECT_EQ(account.peak(), 6000);
    EXPECT_TRUE(recharge(a, other));
    EXPECT_EQ(account.live(), 0);
    EXPECT_EQ(other.live(), 4000);
  }
  EXPECT_EQ(other.live(), 0);
}

TEST_F(CudaDevice, BackwardsRunInTheThreadThatStartsThem) {
  MemoryAccount account;
  const LaneScope scope(device.get(), Lane::kCompute);
  const ScopedAccount charged(account);
  const at::Tensor x = at::ones({256, 256}, floats()).set_requires_grad(true);
  at::mm(x, x).sum().backward();
  // The gradient, which another thread would have charged to nobody.
  EXPECT_EQ(account.live(), 2 * 256 * 256 * 4);
}

}  // namespace
}  // namespace plait
