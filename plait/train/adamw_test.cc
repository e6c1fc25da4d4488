#include "plait/train/adamw.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
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

std::vector<TrainedSlice> slices_of(const std::vector<Parameter>& parameters) {
  std::vector<TrainedSlice> slices;
  for (const Parameter& one : parameters) slices.push_back(whole_slice(one, /*speaks=*/true));
  return slices;
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
  const std::vector<TrainedSlice> slices = slices_of(parameters);
  AdamW optimizer(slices, config);
  std::vector<at::Tensor> results;
  for (int step = 0; step < 5; ++step) {
    optimizer.step(slices, 0.01, step < 2 ? 0.5 : 1.0);
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

TEST(AdamW, FirstStepByHand) {
  // Bias correction makes m = g and v = g^2 in the first step: value - lr * g / |g|, after decay.
  OptimizerConfig config;
  config.weight_decay = 0.5;
  config.eps = 1e-12;
  const Parameter matrix =
      parameter("m", at::ones({1, 2}) * 4, at::tensor({0.5F, -2.0F}, at::kFloat).view({1, 2}));
  const Parameter vector = parameter("v", at::ones({1}) * 4, at::ones({1}) * 8);
  const std::vector<TrainedSlice> slices = slices_of({matrix, vector});
  AdamW optimizer(slices, config);
  optimizer.step(slices, 0.125, 1);
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
  const std::vector<TrainedSlice> slices = slices_of({ours});
  AdamW optimizer(slices, config);
  for (int step = 0; step < 20; ++step) {
    ours.tensor.mutable_grad().copy_(at::randn({33, 7}));
    at::Tensor gradient = ours.tensor.grad() * 0.25;
    steps.add_(1);
    at::_fused_adamw_({value}, {gradient}, {first}, {second}, {}, {steps}, 1e-2, config.betas.first,
                      config.betas.second, config.weight_decay, config.eps, /*amsgrad=*/false,
                      /*maximize=*/false);
    optimizer.step(slices, 1e-2, 0.25);
  }
  EXPECT_LT((ours.tensor.detach() - value).abs().max().item<float>(), 1e-5);
}

/// The numbers begin, …, end - 1 of a parameter, at another place of memory.
TrainedSlice part_of(const Parameter& parameter, std::int64_t begin, std::int64_t end) {
  TrainedSlice slice = whole_slice(parameter, /*speaks=*/true);
  slice.first = begin;
  slice.value = slice.value.slice(0, begin, end).clone();
  slice.gradient = slice.gradient.slice(0, begin, end).clone();
  return slice;
}

// Odd sizes, so that vector loops have a tail. A part of a matrix decays as the matrix does.
TEST(AdamW, BitsDoNotDependOnWhereANumberLies) {
  OptimizerConfig config;
  config.weight_decay = 0.5;
  const Parameter matrix = random_parameter("m", {67, 3});
  const std::vector<TrainedSlice> whole = slices_of({random_parameter("q", {129}), matrix});
  const std::vector<TrainedSlice> head{part_of(matrix, 0, 30)}, tail{part_of(matrix, 30, 201)};
  AdamW together(whole, config), apart(head, config), apart_too(tail, config);
  for (int step = 0; step < 3; ++step) {
    together.step(whole, 1e-2, 0.7);
    apart.step(head, 1e-2, 0.7);
    apart_too.step(tail, 1e-2, 0.7);
  }
  const at::Tensor flat = matrix.tensor.detach().view({-1});
  EXPECT_TRUE(at::equal(flat.slice(0, 0, 30), head[0].value));
  EXPECT_TRUE(at::equal(flat.slice(0, 30), tail[0].value));
}

TEST(AdamW, ItsStateSaysWhichNumbersOfTheParameterItIsOf) {
  const Parameter matrix = random_parameter("m", {67, 3});
  std::vector<TrainedSlice> slices{part_of(matrix, 64, 201), part_of(matrix, 0, 64)};
  slices[1].speaks = false;
  AdamW optimizer(slices, config_without_decay());
  optimizer.step(slices, 1e-2, 1);
  const TrainState state = optimizer.state(slices);
  ASSERT_EQ(state.size(), 5U);
  for (const std::size_t i : {0U, 1U}) {
    EXPECT_EQ(state[i].key(), i == 0 ? "optimizer.first/m" : "optimizer.second/m");
    EXPECT_EQ(state[i].shape, (std::vector<std::int64_t>{67, 3}));
    EXPECT_EQ(state[i].first, 64);
    EXPECT_EQ(state[i].count, 137);
    EXPECT_EQ(state[i].bytes.size(), 137 * sizeof(float));
    EXPECT_TRUE(state[i].speaks);
    EXPECT_EQ(state[i + 2].first, 0);
    EXPECT_FALSE(state[i + 2].speaks);
  }
  EXPECT_EQ(state[4].key(), "optimizer.steps");
}

TEST(AdamW, LeavesGradientsAsTheyAre) {
  const Parameter one = random_parameter("p", {9});
  const at::Tensor before = one.tensor.grad().clone();
  const std::vector<TrainedSlice> slices = slices_of({one});
  AdamW optimizer(slices, config_without_decay());
  optimizer.step(slices, 1e-2, 0.5);
  EXPECT_TRUE(at::equal(one.tensor.grad(), before));
}

}  // namespace
}  // namespace plait
