#include "plait/nn/kernels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <utility>
#include <vector>

#include "tests/support/segments.h"

namespace plait {
namespace {

using List = std::vector<at::Tensor>;
using Function = std::function<at::Tensor(const List&)>;

struct Outcome {
  at::Tensor output;
  List gradients;
};

Outcome run(const Function& function, const List& inputs, at::ScalarType type) {
  List leaves;
  for (const at::Tensor& input : inputs) {
    leaves.push_back(input.to(type).clone().set_requires_grad(true));
  }
  const at::Tensor output = function(leaves);
  torch::autograd::backward({output}, {numbers(output.sizes(), 99).to(type)});
  Outcome outcome{output.detach(), {}};
  for (const at::Tensor& leaf : leaves) outcome.gradients.push_back(leaf.grad());
  return outcome;
}

/// Ours against the formula in float64: in float32, by our loops, and in float64, by torch's
/// functions (nn/ops/ops.h).
void expect_close(const Function& ours, const Function& formula, const List& inputs) {
  const Outcome needed = run(formula, inputs, at::kDouble);
  for (const auto& [type, tolerance] :
       {std::pair(at::kFloat, 1e-6), std::pair(at::kDouble, 1e-9)}) {
    SCOPED_TRACE(c10::toString(type));
    const Outcome found = run(ours, inputs, type);
    const auto check = [&](const at::Tensor& a, const at::Tensor& b, const char* what) {
      ASSERT_EQ(a.sizes(), b.sizes()) << what;
      const double scale = b.abs().max().item<double>();
      EXPECT_LE((a.to(at::kDouble) - b).abs().max().item<double>(), tolerance * scale) << what;
    };
    check(found.output, needed.output, "output");
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      check(found.gradients[i], needed.gradients[i], "gradient");
    }
  }
}

// Sizes beside the kernels' 16 lanes and blocks of 32 rows and 64 columns.
TEST(Kernels, RmsNormIsItsFormula) {
  for (const std::int64_t columns : {3, 5, 16, 63, 96, 200}) {
    for (const std::int64_t rows : {1, 7, 32, 100}) {
      SCOPED_TRACE(testing::Message() << rows << " rows of " << columns);
      expect_close([](const List& x) { return rms_norm(x[0], x[1], 1e-5); },
                   [](const List& x) {
                     return x[0] * (x[0] * x[0]).mean(-1, true).add(1e-5).rsqrt() * x[1];
                   },
                   {numbers({rows, columns}, 1), numbers({columns}, 2)});
    }
  }
}

TEST(Kernels, AHeadsNormIsItsFormula) {
  expect_close(
      [](const List& x) { return rms_norm(x[0], x[1], 1e-5); },
      [](const List& x) { return x[0] * (x[0] * x[0]).mean(-1, true).add(1e-5).rsqrt() * x[1]; },
      {numbers({2, 7, 3, 10}, 1), numbers({10}, 2)});
}

TEST(Kernels, AddBiasIsItsFormula) {
  for (const std::int64_t columns : {3, 64, 200}) {
    for (const std::int64_t rows : {1, 33, 100}) {
      SCOPED_TRACE(testing::Message() << rows << " rows of " << columns);
      expect_close([](const List& x) { return add_bias(x[0], x[1]); },
                   [](const List& x) { return x[0] + x[1]; },
                   {numbers({rows, columns}, 1), numbers({columns}, 2)});
    }
  }
}

TEST(Kernels, SwigluIsItsFormula) {
  expect_close([](const List& x) { return swiglu(x[0], x[1]); },
               [](const List& x) { return x[0] / ((-x[0]).exp() + 1.0) * x[1]; },
               {numbers({7, 33}, 1) * 5, numbers({7, 33}, 2)});
}

TEST(Kernels, RotateIsHuggingFacesFormula) {
  const std::int64_t length = 9, size = 10;
  const RotaryTable table = make_rotary_table(12, size, 100.0);
  expect_close([&](const List& x) { return rotate(x[0], table); },
               [&](const List& x) {
                 const auto doubled = [&](const at::Tensor& t) {
                   const at::Tensor part = t.narrow(0, 0, length).to(at::kDouble);
                   return at::cat({part, part}, -1).unsqueeze(1);
                 };
                 const List halves = at::chunk(x[0], 2, -1);
                 return x[0] * doubled(table.cosine) +
                        at::cat({-halves[1], halves[0]}, -1) * doubled(table.sine);
               },
               {numbers({2, length, 3, size}, 1)});
}

// Position t turns pair i by t * theta^(-2i / size): theta 16, size 4, so by t and by t / 4.
TEST(Kernels, RotaryAnglesFollowThePositions) {
  const RotaryTable table = make_rotary_table(6, 4, 16.0);
  for (std::int64_t t = 0; t < 6; ++t) {
    EXPECT_FLOAT_EQ(table.cosine[t][0].item<float>(), std::cos(static_cast<float>(t)));
    EXPECT_FLOAT_EQ(table.sine[t][1].item<float>(), std::sin(static_cast<float>(t) / 4));
  }
}

TEST(Kernels, AnyNumberOfThreadsGivesTheSameBits) {
  const List inputs = {numbers({2000, 96}, 1), numbers({96}, 2)};
  const Function function = [](const List& x) { return rms_norm(x[0], x[1], 1e-5); };
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Outcome one = run(function, inputs, at::kFloat);
  at::set_num_threads(2);
  const Outcome two = run(function, inputs, at::kFloat);
  at::set_num_threads(before);
  EXPECT_TRUE(same_bits(one.output, two.output));
  for (std::size_t i = 0; i < 2; ++i) EXPECT_TRUE(same_bits(one.gradients[i], two.gradients[i]));
}

TEST(Kernels, GradientsThatAreNotContiguousAreTaken) {
  const at::Tensor x = numbers({4, 6}, 1).set_requires_grad(true), w = numbers({6}, 2);
  const at::Tensor y = rms_norm(x, w, 1e-5);
  torch::autograd::backward({y.t()}, {numbers({6, 4}, 3)});
  const at::Tensor turned = x.grad().clone();
  x.mutable_grad() = at::Tensor();
  torch::autograd::backward({rms_norm(x, w, 1e-5)}, {numbers({6, 4}, 3).t().contiguous()});
  EXPECT_TRUE(same_bits(turned, x.grad()));
}

// Masters in float32, hidden states in bfloat16: the product of the rounded matrix, its gradient in
// float32, added up there over micro-batches.
TEST(Kernels, AProductRoundsItsMatrixAndKeepsTheGradientWide) {
  const at::Tensor x = numbers({5, 7}, 1).to(at::kBFloat16).set_requires_grad(true);
  const at::Tensor base = numbers({5, 3}, 2).to(at::kBFloat16).set_requires_grad(true);
  const at::Tensor matrix = numbers({3, 7}, 3).set_requires_grad(true);
  const at::Tensor above = numbers({5, 3}, 4).to(at::kBFloat16);
  const at::Tensor rounded = matrix.detach().to(at::kBFloat16), rows = x.detach();
  const at::Tensor needed = at::mm(above.t(), rows).to(at::kFloat);

  const at::Tensor product = matrix_product(x, {"matrix", matrix});
  EXPECT_TRUE(same_bits(product.detach(), at::mm(rows, rounded.t())));
  torch::autograd::backward({product}, {above});
  EXPECT_TRUE(same_bits(x.grad(), at::mm(above, rounded)));
  EXPECT_TRUE(same_bits(matrix.grad(), needed));

  const at::Tensor sum = add_matrix_product(base, x, {"matrix", matrix});
  EXPECT_TRUE(same_bits(sum.detach(), at::addmm(base.detach(), rows, rounded.t())));
  torch::autograd::backward({sum}, {above});
  EXPECT_TRUE(same_bits(base.grad(), above));
  EXPECT_EQ(matrix.grad().scalar_type(), at::kFloat);
  EXPECT_TRUE(same_bits(matrix.grad(), needed * 2));

  // A copy that is kept stands for the matrix.
  const Parameter kept{"matrix", matrix, Group::kReplicas, rounded * 2};
  EXPECT_TRUE(same_bits(matrix_product(x, kept).detach(), at::mm(rows, (rounded * 2).t())));
}

TEST(Kernels, AProductOfOneDtypeIsTorchs) {
  const at::Tensor base = numbers({5, 3}, 2), x = numbers({5, 7}, 1), matrix = numbers({3, 7}, 3);
  EXPECT_TRUE(same_bits(matrix_product(x, {"matrix", matrix}), at::mm(x, matrix.t())));
  EXPECT_TRUE(
      same_bits(add_matrix_product(base, x, {"matrix", matrix}), at::addmm(base, x, matrix.t())));
}

TEST(Kernels, WithoutGradientsThereIsNoGraph) {
  const at::Tensor x = numbers({4, 6}, 1), w = numbers({6}, 2);
  EXPECT_FALSE(rms_norm(x, w, 1e-5).requires_grad());
  EXPECT_FALSE(swiglu(x, x).requires_grad());
}

TEST(Kernels, WrongInputsThrow) {
  const at::Tensor x = numbers({4, 6}, 1), w = numbers({6}, 2);
  EXPECT_THROW(rms_norm(x, w.to(at::kDouble), 1e-5), c10::Error);
  EXPECT_THROW(rms_norm(x.t(), numbers({4}, 1), 1e-5), c10::Error);
  EXPECT_THROW(rms_norm(x, numbers({5}, 1), 1e-5), c10::Error);
  const RotaryTable table = make_rotary_table(4, 6, 100.0);
  EXPECT_THROW(rotate(numbers({1, 5, 2, 6}, 1), table), c10::Error);
}

}  // namespace
}  // namespace plait
