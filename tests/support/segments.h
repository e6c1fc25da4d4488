/// Segments for tests: a function and its parameters.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "plait/torch/segment.h"

namespace plait {

class FunctionSegment final : public Segment {
 public:
  using Tensors = std::vector<at::Tensor>;
  /// (inputs, parameters, micro-batch) to outputs.
  using Function = std::function<Tensors(const Tensors&, const Tensors&, int)>;

  FunctionSegment(std::string name, Tensors parameters, Function function)
      : name_(std::move(name)), parameters_(std::move(parameters)), function_(std::move(function)) {
    for (const at::Tensor& parameter : parameters_) parameter.set_requires_grad(true);
  }

  const std::string& name() const override { return name_; }
  Tensors forward(const Tensors& inputs, int microbatch) override {
    return function_(inputs, parameters_, microbatch);
  }
  std::vector<Parameter> parameters() const override {
    std::vector<Parameter> named;
    for (const at::Tensor& tensor : parameters_) {
      named.push_back({name_ + "." + std::to_string(named.size()), tensor});
    }
    return named;
  }

 private:
  std::string name_;
  Tensors parameters_;
  Function function_;
};

/// From -1 to 1, by nothing but the seed.
inline at::Tensor numbers(at::IntArrayRef shape, unsigned seed) {
  std::mt19937 generator(seed);
  at::Tensor tensor = at::empty(shape, at::kFloat);
  auto* data = tensor.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i)
    data[i] = static_cast<float>(generator() % 20001) / 10000.0f - 1.0f;
  return tensor;
}

/// Same shape and the same bits; both undefined is the same.
inline testing::AssertionResult same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.defined() != b.defined()) {
    return testing::AssertionFailure() << "one is undefined: " << a.defined() << " " << b.defined();
  }
  if (!a.defined()) return testing::AssertionSuccess();
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) {
    return testing::AssertionFailure() << "shapes " << a.sizes() << " and " << b.sizes();
  }
  const at::Tensor left = a.detach().contiguous(), right = b.detach().contiguous();
  if (left.nbytes() == 0 || std::memcmp(left.data_ptr(), right.data_ptr(), left.nbytes()) == 0) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "bits differ:\n" << left << "\n" << right;
}

}  // namespace plait
