#include "plait/nn/mixture_kernels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <random>
#include <vector>

#include "tests/support/segments.h"

namespace plait {
namespace {

using List = std::vector<at::Tensor>;

at::Tensor leaf(const at::Tensor& tensor) {
  return tensor.detach().clone().set_requires_grad(true);
}

void expect_close(const at::Tensor& found, const at::Tensor& needed, const char* what) {
  ASSERT_EQ(found.sizes(), needed.sizes()) << what;
  const at::Tensor right = needed.detach().to(at::kDouble);
  const double scale = right.abs().max().item<double>();
  EXPECT_LE((found.detach().to(at::kDouble) - right).abs().max().item<double>(), 3e-6 * scale)
      << what;
}

/// The experts of each token, [tokens, k], in the order of the weights.
at::Tensor choose_plainly(const at::Tensor& scores, const at::Tensor& bias, std::int64_t k) {
  return std::get<1>(at::topk(scores + bias, k));
}

/// Weights and the auxiliary loss by the formula, in float64.
struct Plain {
  at::Tensor weights, auxiliary;
};
Plain route_plainly(const at::Tensor& logits, const at::Tensor& bias,
                    const RouterOptions& options) {
  const at::Tensor scores = options.softmax ? at::softmax(logits, -1) : at::sigmoid(logits);
  const at::Tensor chosen = choose_plainly(scores.detach(), bias, options.chosen);
  Plain plain{scores.gather(1, chosen), {}};
  if (options.normalise) plain.weights = plain.weights / (plain.weights.sum(1, true) + 1e-20);
  plain.weights = plain.weights * options.scale;
  const std::int64_t experts = logits.size(1), tokens = logits.size(0);
  const at::Tensor share =
      at::bincount(chosen.reshape({-1}), {}, experts).to(at::kDouble) *
      (static_cast<double>(experts) / static_cast<double>(options.chosen * tokens));
  const at::Tensor mean = (scores / scores.sum(1, true)).mean(0);
  plain.auxiliary = (share * mean).sum() * options.aux_loss_coefficient;
  return plain;
}

TEST(Router, WeightsAndGradientsAreTheFormulas) {
  for (const bool softmax : {false, true}) {
    for (const bool normalise : {false, true}) {
      for (const double coefficient : {0.0, 0.5}) {
        SCOPED_TRACE(testing::Message() << softmax << normalise << coefficient);
        const RouterOptions options{softmax, 3, normalise, 2.5, coefficient};
        const at::Tensor values = numbers({17, 8}, 1) * 3, bias = numbers({8}, 2) * 0.3;
        const at::Tensor above = numbers({17, 3}, 3);
        const at::Tensor ours = leaf(values), plain = leaf(values.to(at::kDouble));
        const Routing routing = route(ours, bias, options);
        torch::autograd::backward({routing.weights}, {above});
        const Plain needed = route_plainly(plain, bias.to(at::kDouble), options);
        torch::autograd::backward(
            {(needed.weights * above.to(at::kDouble)).sum() + needed.auxiliary});
        expect_close(routing.weights, needed.weights, "weights");
        expect_close(ours.grad(), plain.grad(), "gradient");
      }
    }
  }
}

TEST(Router, EqualScoresGoToTheLowerExpert) {
  const Routing routing =
      route(at::zeros({3, 5}), at::zeros({5}), {.chosen = 2, .normalise = true, .scale = 1.0});
  EXPECT_TRUE(at::equal(routing.loads, at::tensor({3, 3, 0, 0, 0}, at::kLong)));
  EXPECT_TRUE(at::equal(routing.weights, at::full({3, 2}, 0.5)));
}

TEST(Router, TheBiasChoosesAndDoesNotWeigh) {
  const at::Tensor logits = at::tensor({3.0f, 2.0f, 1.0f}).view({1, 3});
  const Routing routing = route(logits, at::tensor({-9.0f, 0.0f, 9.0f}), {.chosen = 1});
  EXPECT_TRUE(at::equal(routing.loads, at::tensor({0, 0, 1}, at::kLong)));
  EXPECT_FLOAT_EQ(routing.weights.item<float>(), 1.0f / (1.0f + std::exp(-1.0f)));
}

TEST(Router, RowsAreSortedByExpertAndThenByToken) {
  const std::int64_t tokens = 23, k = 3, experts = 7;
  const at::Tensor logits = numbers({tokens, experts}, 5);
  const Routing routing = route(logits, at::zeros({experts}), {.chosen = k});
  const at::Tensor chosen = choose_plainly(at::sigmoid(logits), at::zeros({experts}), k);
  const at::Tensor order = at::argsort(chosen.reshape({-1}), /*stable=*/true, 0);
  EXPECT_TRUE(at::equal(at::argsort(order, /*stable=*/true, 0), routing.inverse));
  EXPECT_EQ(routing.loads.sum().item<std::int64_t>(), tokens * k);
}

// A model that has diverged fails at its loss, not here.
TEST(Router, NumbersThatAreNoneAreRoutedToo) {
  const Routing routing = route(at::full({2, 3}, NAN), at::zeros({3}), {.chosen = 2});
  EXPECT_TRUE(at::equal(routing.loads, at::tensor({2, 2, 0}, at::kLong)));
}

struct Moved {
  at::Tensor output;
  List gradients;
};

template <typename Function>
Moved run(const Function& function, const List& inputs, at::ScalarType type) {
  List leaves;
  for (const at::Tensor& input : inputs) leaves.push_back(leaf(input.to(type)));
  Moved moved{function(leaves), {}};
  torch::autograd::backward({moved.output}, {numbers(moved.output.sizes(), 99).to(type)});
  for (const at::Tensor& one : leaves) moved.gradients.push_back(one.grad());
  return moved;
}

template <typename Ours, typename Formula>
void expect_same(const Ours& ours, const Formula& formula, const List& inputs) {
  const Moved found = run(ours, inputs, at::kFloat), needed = run(formula, inputs, at::kDouble);
  expect_close(found.output, needed.output, "output");
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    expect_close(found.gradients[i], needed.gradients[i], "gradient");
  }
}

at::Tensor shuffled(std::int64_t count, unsigned seed) {
  at::Tensor places = at::arange(count, at::kLong);
  auto* data = places.data_ptr<std::int64_t>();
  std::shuffle(data, data + count, std::mt19937(seed));
  return places;
}

TEST(Rows, CopiesPermutationsAndSumsAreTheirFormulas) {
  const std::int64_t tokens = 9, k = 3, columns = 37;
  const at::Tensor inverse = shuffled(tokens * k, 1), order = at::argsort(inverse);
  const at::Tensor h = numbers({tokens, columns}, 2), rows = numbers({tokens * k, columns}, 3);
  const auto copied = [&](const at::Tensor& x) {
    return x.unsqueeze(1).expand({tokens, k, columns}).reshape({tokens * k, columns});
  };
  expect_same([&](const List& x) { return copy_rows(x[0], inverse); },
              [&](const List& x) { return copied(x[0]).index_select(0, order); }, {h});
  expect_same([&](const List& x) { return permute_rows(x[0], inverse); },
              [&](const List& x) { return x[0].index_select(0, order); }, {rows});
  expect_same([&](const List& x) { return add_weighted_rows(x[0], x[1], x[2], inverse); },
              [&](const List& x) {
                const at::Tensor mine = x[1].index_select(0, inverse).view({tokens, k, columns});
                return x[0] + (mine * x[2].unsqueeze(2)).sum(1);
              },
              {h, rows, numbers({tokens, k}, 4)});
}

TEST(Rows, AnyNumberOfThreadsGivesTheSameBits) {
  const at::Tensor inverse = shuffled(3000, 1);
  const List inputs = {numbers({1000, 96}, 2), numbers({3000, 96}, 3), numbers({1000, 3}, 4)};
  const auto function = [&](const List& x) {
    return add_weighted_rows(x[0], x[1] + copy_rows(x[0], inverse), x[2], inverse);
  };
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Moved one = run(function, inputs, at::kFloat);
  at::set_num_threads(2);
  const Moved two = run(function, inputs, at::kFloat);
  at::set_num_threads(before);
  EXPECT_TRUE(same_bits(one.output, two.output));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_TRUE(same_bits(one.gradients[i], two.gradients[i]));
  }
}

TEST(Rows, NoRowsAreRows) {
  const at::Tensor none = leaf(at::empty({0, 5}));
  const at::Tensor moved = permute_rows(none, at::empty({0}, at::kLong));
  torch::autograd::backward({moved.sum()});
  EXPECT_EQ(none.grad().sizes(), none.sizes());
}

TEST(Rows, WrongInputsThrow) {
  const at::Tensor x = numbers({4, 6}, 1);
  EXPECT_THROW(copy_rows(x, at::arange(7, at::kLong)), c10::Error);
  EXPECT_THROW(copy_rows(x.t(), at::arange(6, at::kLong)), c10::Error);
  EXPECT_THROW(permute_rows(x, at::arange(3, at::kLong)), c10::Error);
  EXPECT_THROW(permute_rows(x, at::arange(4, at::kInt)), c10::Error);
  EXPECT_THROW(add_weighted_rows(x, x, numbers({4, 2}, 2), at::arange(8, at::kLong)), c10::Error);
  EXPECT_THROW(route(x, at::zeros({5}), {.chosen = 2}), c10::Error);
  EXPECT_THROW(route(x, at::zeros({6}), {.chosen = 7}), c10::Error);
}

}  // namespace
}  // namespace plait
