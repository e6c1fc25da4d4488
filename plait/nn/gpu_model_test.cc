#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "plait/torch/device_cuda.h"
#include "tests/support/models.h"

namespace plait {
namespace {

class CudaModel : public ::testing::TestWithParam<ModelConfig> {
 protected:
  void SetUp() override {
    if (const Expected<void> ready = prepare_cuda(); !ready) GTEST_SKIP() << ready.error().text();
    device = make_cuda_device(0).value();
  }
  /// A step with I and W apart, on the GPU's compute lane.
  Cut trained() {
    const LaneScope scope(device.get(), Lane::kCompute);
    Cut cut = cut_model(GetParam(), {2, 2}, {0, 0}, cuda_place(0));
    train_step(cut, /*split=*/true);
    return cut;
  }
  std::unique_ptr<Device> device;
};

TEST_P(CudaModel, BeginsWithTheWeightsOfTheCpu) {
  const Cut host = cut_model(GetParam(), {2, 2}, {0, 0}), gpu = trained();
  for (const Parameter& one : host.stores[0]->tensors())
    EXPECT_TRUE(at::equal(gpu.stores[0]->find(one.name).cpu(), one.tensor)) << one.name;
}

// float32 on both: sums in another order.
TEST_P(CudaModel, LossesAndGradientsAreThoseOfTheCpu) {
  Cut host = cut_model(GetParam(), {2, 2}, {0, 0});
  train_step(host, /*split=*/true);
  const Cut gpu = trained();
  for (std::size_t i = 0; i < host.losses->losses().size(); ++i)
    EXPECT_NEAR(gpu.losses->losses()[i], host.losses->losses()[i], 1e-5);
  const auto found = gradients_of(gpu), needed = gradients_of(host);
  for (const auto& [name, gradient] : needed) {
    const double most = gradient.abs().max().item<double>();
    EXPECT_LE((found.at(name).cpu() - gradient).abs().max().item<double>(), 1e-4 * most) << name;
  }
  EXPECT_EQ(gpu.loads->sums(), host.loads->sums());
}

TEST_P(CudaModel, RepeatsBitForBit) {
  const Cut first = trained();
  for (int again = 0; again < 3; ++again) {
    const Cut other = trained();
    EXPECT_EQ(first.losses->losses(), other.losses->losses());
    const auto left = gradients_of(first), right = gradients_of(other);
    for (const auto& [name, gradient] : left)
      EXPECT_TRUE(at::equal(gradient, right.at(name))) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CudaModel,
                         ::testing::Values(small_model(false), small_model(true), small_mixture()),
                         [](const auto& given) {
                           return given.param.architecture == "llama"
                                      ? given.param.tie_word_embeddings ? "tied" : "llama"
                                      : "mixture";
                         });

}  // namespace
}  // namespace plait
