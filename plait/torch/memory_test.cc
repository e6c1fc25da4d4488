#include "plait/torch/memory.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace plait {
namespace {

// 4 bytes a float32.
at::Tensor floats(std::int64_t count) { return at::empty({count}, at::kFloat); }

class Memory : public testing::Test {
 protected:
  void SetUp() override { install_counting_allocator(); }
};

TEST_F(Memory, ChargesTheScopesAccountAndItsPeakStays) {
  MemoryAccount account;
  {
    const ScopedAccount scope(account);
    const at::Tensor a = floats(1000);
    { const at::Tensor b = floats(500); }
    EXPECT_EQ(account.live(), 4000);
    EXPECT_EQ(account.peak(), 4000 + 2000);
    account.reset_peak();
    EXPECT_EQ(account.peak(), 4000);
  }
  EXPECT_EQ(account.live(), 0);
  const at::Tensor outside = floats(10);
  EXPECT_EQ(account.live(), 0);
}

TEST_F(Memory, ScopesNestAndViewsCostNothing) {
  MemoryAccount outer, inner;
  const ScopedAccount scope(outer);
  at::Tensor a;
  {
    const ScopedAccount nested(inner);
    a = floats(100);
  }
  const at::Tensor b = floats(10);
  const at::Tensor view = a.view({10, 10});
  EXPECT_EQ(inner.live(), 400);
  EXPECT_EQ(outer.live(), 40);
}

TEST_F(Memory, OperationsAreCounted) {
  MemoryAccount account;
  const ScopedAccount scope(account);
  const at::Tensor a = at::ones({8, 4}, at::kFloat), b = at::ones({4, 2}, at::kFloat);
  const Bytes before = account.live();
  const at::Tensor c = at::mm(a, b);
  EXPECT_EQ(account.live() - before, 8 * 2 * 4);
  EXPECT_EQ(c.sum().item<float>(), 8 * 2 * 4.0f);
}

TEST_F(Memory, DataIsAligned) {
  for (std::int64_t count = 1; count < 100'000; count = count * 3 + 1) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(floats(count).data_ptr()) % 64, 0u) << count;
  }
  EXPECT_EQ(floats(0).numel(), 0);
}

TEST_F(Memory, AFreeOnAnotherThreadCreditsTheAccountThatWasCharged) {
  MemoryAccount mine, theirs;
  at::Tensor tensor;
  {
    const ScopedAccount scope(mine);
    tensor = floats(256);
  }
  std::thread([&] {
    const ScopedAccount scope(theirs);
    tensor.reset();
  }).join();
  EXPECT_EQ(mine.live(), 0);
  EXPECT_EQ(theirs.live(), 0);
}

TEST_F(Memory, RechargeMovesBytesToTheReceiver) {
  MemoryAccount sender, receiver;
  at::Tensor tensor;
  {
    const ScopedAccount scope(sender);
    tensor = floats(256);
  }
  EXPECT_TRUE(recharge(tensor, receiver));
  EXPECT_TRUE(recharge(tensor, receiver));  // changes nothing
  EXPECT_EQ(sender.live(), 0);
  EXPECT_EQ(receiver.live(), 1024);
  EXPECT_EQ(receiver.peak(), 1024);
  tensor.reset();
  EXPECT_EQ(receiver.live(), 0);
  float borrowed[4] = {};
  EXPECT_FALSE(recharge(at::from_blob(borrowed, {4}, at::kFloat), receiver));
}

TEST_F(Memory, BlocksOutliveTheirAccount) {
  auto account = std::make_unique<MemoryAccount>();
  at::Tensor tensor;
  {
    const ScopedAccount scope(*account);
    tensor = floats(100);
  }
  account.reset();
  tensor.fill_(1.0);
  EXPECT_EQ(tensor.sum().item<float>(), 100.0f);
}

TEST_F(Memory, ThreadsCountExactly) {
  constexpr int kThreads = 4, kRounds = 2000;
  MemoryAccount own[kThreads], shared;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::vector<at::Tensor> kept;
      for (int i = 0; i < kRounds; ++i) {
        const ScopedAccount scope(i % 2 == 0 ? own[t] : shared);
        at::Tensor tensor = floats(16);
        if (i < 20) kept.push_back(std::move(tensor));
      }
      EXPECT_EQ(own[t].live(), 10 * 64);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(shared.live(), 0);
  EXPECT_GE(shared.peak(), 10 * 64);  // what one thread keeps, if they ran one after the other
  for (const MemoryAccount& account : own) EXPECT_EQ(account.live(), 0);
}

TEST_F(Memory, BlocksOfOtherAllocatorsAreCountedAsTheyTellOfThem) {
  std::vector<std::uint8_t> bytes(64);
  MemoryAccount first, second;
  {
    const ScopedAccount scope(first);
    charge_block(bytes.data(), 64);
  }
  charge_block(bytes.data() + 1, 8);  // under no account
  EXPECT_EQ(first.live(), 64);
  const at::Tensor there = at::from_blob(bytes.data(), {64}, at::kByte);
  EXPECT_TRUE(recharge(there, second));
  EXPECT_EQ(first.live(), 0);
  EXPECT_EQ(second.live(), 64);
  credit_block(bytes.data());
  credit_block(bytes.data() + 1);
  EXPECT_EQ(second.live(), 0);
  EXPECT_EQ(second.peak(), 64);
  EXPECT_FALSE(recharge(there, first));
}

}  // namespace
}  // namespace plait
