#include "plait/train/adamw.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "plait/torch/device_cuda.h"

namespace plait {
namespace {

Parameter parameter(const std::string& name, const at::Tensor& value, const at::Tensor& gradient) {
  at::Tensor leaf = value.clone().requires_grad_(true);
  leaf.mutable_grad() = gradient.clone();
  return {name, leaf};
}

Parameter random_parameter(const std::string& name, at::IntArrayRef shape) {
  return parameter(name, at::randn(shape), at::randn(shape));
}

OptimizerConfig config_without_decay() {
  OptimizerConfig config;
  config.weight_decay = 0;
  return config;
}

TEST(LearningRate, WarmsUpThenFollowsACosine) {
  OptimizerConfig config;
  config.lr = 2;
  config.warmup_steps = 4;
  config.min_lr_share = 0.5;
  EXPECT_DOUBLE_EQ(learning_rate(config, 0, 12), 0.5);  // 2 * 1/4
  EXPECT_DOUBLE_EQ(learning_rate(config, 3, 12), 2.0);  // 2 * 4/4
  EXPECT_DOUBLE_EQ(learning_rate(config, 4, 12), 2.0);  // the cosine's top
  // Half way down, cos(pi / 2) = 0: 2 * (0.5 + 0.5 * 0.5)
  EXPECT_DOUBLE_EQ(learning_rate(config, 8, 12), 1.5);
  EXPECT_DOUBLE_EQ(learning_rate(config, 12, 12), 1.0);  // 2 * 0.5
  for (int step = 4; step < 11; ++step) {
    EXPECT_GE(learning_rate(config, step, 12), learning_rate(config, step + 1, 12));
  }
}

TEST(LearningRate, HoldsForRunsShorterThanTheWarmUp) {
  OptimizerConfig config;
  config.lr = 1;
  config.warmup_steps = 10;
  EXPECT_DOUBLE_EQ(learning_rate(config, 0, 2), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(config, 1, 2), 0.2);
  config.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(learning_rate(config, 0, 1), 1.0);
}

TEST(SquareSums, AddInDoublePrecision) {
  // 2^13 squared is 2^26: 1 more is lost in float32, which holds 24 bits, and kept in float64.
  const at::Tensor gradient = at::tensor({8192.0F, 1.0F, 2.0F}, at::kFloat);
  const auto sums = square_sums({parameter("p", gradient, gradient)});
  ASSERT_EQ(sums.size(), 1U);
  EXPECT_EQ(sums[0].first, "p");
  EXPECT_EQ(sums[0].second, 67108864.0 + 1 + 4);
}

TEST(SquareSums, AreThoseOfTheParameterWhereverItLies) {
  const Parameter a = random_parameter("a", {37, 11});
  const Parameter b = random_parameter("b", {5});
  const auto both = square_sums({a, b});
  EXPECT_EQ(both[0].second, square_sums({a})[0].second);
  EXPECT_EQ(both[1].second, square_sums({b})[0].second);
  const at::Tensor gradient = a.tensor.grad().to(at::kDouble);
  EXPECT_NEAR(both[0].second, (gradient * gradient).sum().item<double>(), 1e-9);
}

/// Five steps of a matrix and a vector from the same numbers, in that dtype on that device.
std::vector<at::Tensor> steps_of(at::ScalarType type, at::Device device) {
  at::manual_seed(3);
  std::vector<Parameter> parameters;
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{7, 33}, {21}}) {
    const at::Tensor value = at::randn(shape).to(device, type);
    const at::Tensor gradient = at::randn(shape).to(device, type);
    parameters.push_back(parameter("p", value, gradient));
  }
  OptimizerConfig config;
  config.weight_decay = 0.3;
  AdamW optimizer(parameters, config);
  std::vector<at::Tensor> results;
  for (int step = 0; step < 5; ++step) {
    optimizer.step(0.01, step < 2 ? 0.5 : 1.0);
    for (const Parameter& one : parameters) one.tensor.mutable_grad().mul_(-0.7);
  }
  for (const Parameter& one : parameters) {
    results.push_back(one.tensor.detach().cpu().to(at::kDouble));
    results.push_back(one.tensor.grad().cpu().to(at::kDouble));
  }
  return results;
}

void expect_close(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& needed,
                  double tolerance) {
  for (std::size_t i = 0; i < needed.size(); ++i)
    EXPECT_LE((found[i] - needed[i]).abs().max().item<double>(), tolerance) << i;
}

TEST(AdamW, TorchsKernelDoesTheSameStepsAsTheLoop) {
  expect_close(steps_of(at::kFloat, at::kCPU), steps_of(at::kDouble, at::kCPU), 1e-6);
}

TEST(CudaAdamW, DoesTheSameStepsAsTheCpu) {
  if (const Expected<void> ready = prepare_cuda(); !ready) GTEST_SKIP() << ready.error().text();
  expect_close(steps_of(at::kFloat, cuda_place(0)), steps_of(at::kDouble, at::kCPU), 1e-6);
}

TEST(CudaSquareSums, AreThoseOfTheCpu) {
  if (const Expected<void> ready = prepare_cuda(); !ready) GTEST_SKIP() << ready.error().text();
  const at::Tensor gradient = at::randn({300, 70});
  const Parameter host = parameter("a", gradient, gradient);
  const at::Tensor on_gpu = gradient.to(cuda_place(0));
  const double needed = square_sums({host})[0].second;
  const auto found = square_sums({parameter("a", on_gpu, on_gpu), host});
  EXPECT_NEAR(found[0].second, needed, 1e-12 * needed);
  EXPECT_EQ(found[1].second, needed);
}

TEST(GlobalNorm, AddsInTheOrderOfNames) {
  // 1 + 2^53 loses the 1; 1 + 1 + 2^53 keeps both only if they are added first: "a" and "b".
  const double big = 9007199254740992.0;
  const std::vector<std::pair<std::string, double>> sums = {{"c", big}, {"a", 1}, {"b", 1}};
  EXPECT_EQ(global_norm(sums), std::sqrt(big + 2));
  std::vector<std::pair<std::string, double>> order = sums;
  std::sort(order.begin(), order.end());
  do {
    EXPECT_EQ(global_norm(order), global_norm(sums));
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_EQ(global_norm({{"x", 9}, {"y", 16}}), 5);  // sqrt(9 + 16)
  EXPECT_TRUE(std::isnan(global_norm({{"x", std::numeric_limits<double>::quiet_NaN()}})));
}

TEST(AdamW, FirstStepByHand) {
  // Bias correction makes m = g and v = g^2 in the first step: value - lr * g / |g|, after decay.
  OptimizerConfig config;
  config.weight_decay = 0.5;
  config.eps = 1e-12;
  const Parameter matrix =
      parameter("m", at::ones({1, 2}) * 4, at::tensor({0.5F, -2.0F}, at::kFloat).view({1, 2}));
  const Parameter vector = parameter("v", at::ones({1}) * 4, at::ones({1}) * 8);
  AdamW optimizer({matrix, vector}, config);
  optimizer.step(0.125, 1);
  // Matrix: 4 * (1 - 0.125 * 0.5) = 3.75, then minus or plus 0.125. Vector: no decay.
  EXPECT_NEAR(matrix.tensor[0][0].item<float>(), 3.625, 1e-6);
  EXPECT_NEAR(matrix.tensor[0][1].item<float>(), 3.875, 1e-6);
  EXPECT_NEAR(vector.tensor[0].item<float>(), 3.875, 1e-6);
}

TEST(AdamW, FollowsTorchsFusedOne) {
  OptimizerConfig config;
  const Parameter ours = random_parameter("p", {33, 7});
  at::Tensor value = ours.tensor.detach().clone();
  at::Tensor first = at::zeros_like(value);
  at::Tensor second = at::zeros_like(value);
  at::Tensor steps = at::zeros({}, at::kFloat);
  AdamW optimizer({ours}, config);
  for (int step = 0; step < 20; ++step) {
    ours.tensor.mutable_grad().copy_(at::randn({33, 7}));
    at::Tensor gradient = ours.tensor.grad() * 0.25;
    steps.add_(1);
    at::_fused_adamw_({value}, {gradient}, {first}, {second}, {}, {steps}, 1e-2, config.betas.first,
                      config.betas.second, config.weight_decay, config.eps, /*amsgrad=*/false,
                      /*maximize=*/false);
    optimizer.step(1e-2, 0.25);
  }
  EXPECT_LT((ours.tensor.detach() - value).abs().max().item<float>(), 1e-5);
}

TEST(AdamW, BitsDoNotDependOnWhereAParameterLies) {
  // Odd sizes, so that vector loops have a tail; the same numbers at another place of memory.
  const at::Tensor values = at::randn({67});
  const at::Tensor gradients = at::randn({67});
  const Parameter whole = parameter("p", values, gradients);
  const Parameter other = random_parameter("q", {129});
  const Parameter head = parameter("p", values.slice(0, 0, 30), gradients.slice(0, 0, 30));
  const Parameter tail = parameter("p", values.slice(0, 30), gradients.slice(0, 30));
  AdamW together({other, whole}, config_without_decay());
  AdamW apart({head}, config_without_decay());
  AdamW apart_too({tail}, config_without_decay());
  for (int step = 0; step < 3; ++step) {
    for (AdamW* optimizer : {&together, &apart, &apart_too}) optimizer->step(1e-2, 0.7);
  }
  EXPECT_TRUE(at::equal(whole.tensor.slice(0, 0, 30), head.tensor));
  EXPECT_TRUE(at::equal(whole.tensor.slice(0, 30), tail.tensor));
}

TEST(AdamW, LeavesGradientsAsTheyAre) {
  const Parameter one = random_parameter("p", {9});
  const at::Tensor before = one.tensor.grad().clone();
  AdamW optimizer({one}, config_without_decay());
  optimizer.step(1e-2, 0.5);
  EXPECT_TRUE(at::equal(one.tensor.grad(), before));
}

}  // namespace
}  // namespace plait
