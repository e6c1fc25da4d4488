#include "plait/nn/ops/ops.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "plait/torch/device_cuda.h"
#include "tests/support/op_cases.h"

namespace plait {
namespace {

using namespace op_cases;  // NOLINT(google-build-using-namespace): the cases are this test's

TEST(Ops, TheLoopsAreTheReference) {
  expect_close_to_reference(cpu_ops(), at::kFloat, at::kCPU, 3e-6);
}

TEST(Ops, TorchsFunctionsInFloat32AreTheReference) {
  expect_close_to_reference(generic_ops(), at::kFloat, at::kCPU, 3e-6);
}

TEST(Ops, TorchsFunctionsInBFloat16AreTheReference) {
  expect_close_to_reference(generic_ops(), at::kBFloat16, at::kCPU, kBFloat16Tolerance);
}

TEST(Ops, MasksHaveTheSameBits) {
  for (const OpCase& one : all_cases()) {
    if (!one.name.starts_with("masked")) continue;
    const List left = run(one, cpu_ops(), at::kFloat, at::kCPU);
    const List right = run(one, generic_ops(), at::kFloat, at::kCPU);
    for (std::size_t i = 0; i < left.size(); ++i)
      EXPECT_TRUE(at::equal(left[i], right[i])) << one.name;
  }
}

TEST(Ops, Float32OnTheCpuHasLoops) {
  EXPECT_EQ(&ops_for(at::ones({1})), &cpu_ops());
  EXPECT_EQ(&ops_for(at::ones({1}, at::kDouble)), &generic_ops());
  EXPECT_EQ(&ops_for(at::ones({1}, at::kBFloat16)), &generic_ops());
}

class CudaOps : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const Expected<void> ready = prepare_cuda(); !ready) GTEST_SKIP() << ready.error().text();
  }
};

TEST_F(CudaOps, AreTheReference) {
  expect_close_to_reference(generic_ops(), at::kFloat, cuda_place(0), 3e-6);
  expect_close_to_reference(cuda_ops(), at::kFloat, cuda_place(0), 3e-6);
  expect_close_to_reference(cuda_ops(), at::kBFloat16, cuda_place(0), kBFloat16Tolerance);
}

TEST_F(CudaOps, WideNormsAreTheReference) {
  for (const OpCase& one : wide_norm_cases())
    expect_close(one, cuda_ops(), at::kFloat, cuda_place(0), 1e-5);
}

TEST_F(CudaOps, RepeatBitForBit) {
  for (const Ops* ops : {&generic_ops(), &cuda_ops()}) {
    for (const OpCase& one : all_cases()) {
      const List first = run(one, *ops, at::kFloat, cuda_place(0));
      for (int again = 0; again < 3; ++again) {
        const List other = run(one, *ops, at::kFloat, cuda_place(0));
        for (std::size_t i = 0; i < first.size(); ++i)
          EXPECT_TRUE(at::equal(first[i], other[i])) << one.name;
      }
    }
  }
}

TEST_F(CudaOps, MasksHaveTheBitsOfTheCpu) {
  for (const OpCase& one : all_cases()) {
    if (!one.name.starts_with("masked")) continue;
    const List left = run(one, cpu_ops(), at::kFloat, at::kCPU);
    for (const Ops* ops : {&generic_ops(), &cuda_ops()}) {
      const List right = run(one, *ops, at::kFloat, cuda_place(0));
      for (std::size_t i = 0; i < left.size(); ++i)
        EXPECT_TRUE(at::equal(left[i], right[i].cpu())) << one.name;
    }
  }
}

TEST_F(CudaOps, Float32AndBFloat16HaveKernels) {
  const at::TensorOptions gpu(cuda_place(0));
  EXPECT_EQ(&ops_for(at::ones({1}, gpu)), &cuda_ops());
  EXPECT_EQ(&ops_for(at::ones({1}, gpu.dtype(at::kBFloat16))), &cuda_ops());
  EXPECT_EQ(&ops_for(at::ones({1}, gpu.dtype(at::kDouble))), &generic_ops());
}

}  // namespace
}  // namespace plait
