// CUDA's kernels on threads of the CPU, against float64. Builds with CUDA have the kernels
// themselves.
#include "plait/nn/ops/kernel_ops.h"

#include <gtest/gtest.h>

#include "tests/support/cuda_on_threads.h"
#include "tests/support/op_cases.h"
// Behind what it is compiled with.
#include "plait/nn/ops/gpu_kernels.cu"  // NOLINT(bugprone-suspicious-include)

namespace plait {
namespace {

using namespace op_cases;  // NOLINT(google-build-using-namespace): the cases are this test's

const KernelOps& kernel_ops() {
  static const KernelOps ops([]() -> gpu_kernels::Stream { return nullptr; });
  return ops;
}

TEST(KernelOps, AreTheReference) {
  expect_close_to_reference(kernel_ops(), at::kFloat, at::kCPU, 3e-6);
  expect_close_to_reference(kernel_ops(), at::kBFloat16, at::kCPU, kBFloat16Tolerance);
}

// A block for a row, rows of many chunks, columns that no block divides.
TEST(KernelOps, WideNormsAreTheReference) {
  for (const OpCase& one : wide_norm_cases())
    expect_close(one, kernel_ops(), at::kFloat, at::kCPU, 1e-5);
}

TEST(KernelOps, MasksHaveTheBitsOfTheLoops) {
  for (const OpCase& one : all_cases()) {
    if (!one.name.starts_with("masked")) continue;
    const List left = run(one, cpu_ops(), at::kFloat, at::kCPU);
    const List right = run(one, kernel_ops(), at::kFloat, at::kCPU);
    for (std::size_t i = 0; i < left.size(); ++i)
      EXPECT_TRUE(at::equal(left[i], right[i])) << one.name;
  }
}

TEST(KernelOps, NothingIsComputedOfNothing) {
  const at::Tensor none = at::empty({0, 6}), w = numbers({6}, 1);
  const at::Tensor places = at::empty({0}, at::kLong);
  EXPECT_EQ(kernel_ops().rms_norm(none, w, 1e-5).y.numel(), 0);
  EXPECT_EQ(kernel_ops().swiglu(none, none).numel(), 0);
  EXPECT_EQ(kernel_ops().move_rows(none, places, true).numel(), 0);
  EXPECT_TRUE(
      at::equal(kernel_ops().rms_norm_weight(none, none, w, at::empty({0})), at::zeros({6})));
}

TEST(KernelOps, WrongTensorsThrow) {
  const at::Tensor x = numbers({4, 6}, 1), w = numbers({6}, 2);
  EXPECT_THROW(kernel_ops().rms_norm(x.to(at::kDouble), w, 1e-5), c10::Error);
  EXPECT_THROW(kernel_ops().rms_norm(numbers({6, 4}, 1).t(), w, 1e-5), c10::Error);
  EXPECT_THROW(kernel_ops().rms_norm(x, w.to(at::kBFloat16), 1e-5), c10::Error);
  EXPECT_THROW(kernel_ops().swiglu(x, x.to(at::kBFloat16)), c10::Error);
}

}  // namespace
}  // namespace plait
