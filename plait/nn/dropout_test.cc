#include "plait/nn/dropout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <memory>
#include <vector>

#include "tests/support/models.h"

namespace plait {
namespace {

constexpr MaskKey kKey{7, 3, 2, Branch::kAttention, 0};

at::Tensor mask(at::IntArrayRef shape, double share, const MaskKey& key = kKey) {
  return add_dropped(at::zeros(shape), at::ones(shape), share, key);
}

TEST(Dropout, TheKeyAndNothingElseMakesTheMask) {
  const at::Tensor one = mask({64, 96}, 0.5);
  EXPECT_TRUE(same_bits(one, mask({64, 96}, 0.5)));
  std::vector<MaskKey> others(6, kKey);
  others[0].seed = 8;
  others[1].step = 4;
  others[2].layer = 3;
  others[3].branch = Branch::kMlp;
  others[4].first = 96;                     // another token
  others[5].first = std::int64_t{64} * 96;  // another micro-batch
  std::vector<at::Tensor> masks = {one};
  for (const MaskKey& key : others) masks.push_back(mask({64, 96}, 0.5, key));
  // Masks of fair coins agree in half of 6144 places, with a deviation of 39.
  for (std::size_t a = 0; a < masks.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b)
      EXPECT_NEAR((masks[a] == masks[b]).sum().item<double>(), 3072, 5 * 39) << a << " " << b;
  }
}

TEST(Dropout, AsManyAreDroppedAsWereAskedForAndTheRestIsScaled) {
  const std::int64_t count = 1'000'000;
  for (const double share : {0.0, 0.01, 0.1, 0.5, 0.9}) {
    const at::Tensor drawn = mask({count}, share);
    const double dropped = (drawn == 0).sum().item<double>();
    const double deviation = std::sqrt(share * (1 - share) * static_cast<double>(count));
    EXPECT_NEAR(dropped, share * static_cast<double>(count), 5 * deviation) << share;
    const auto scale = static_cast<float>(1 / (1 - share));
    EXPECT_EQ((drawn == scale).sum().item<double>() + dropped, static_cast<double>(count));
  }
}

// A number's place in the whole batch counts, not how the batch is cut nor which thread drops it.
TEST(Dropout, PiecesAndThreadsGiveTheMaskOfTheWhole) {
  at::set_num_threads(1);
  const at::Tensor whole = mask({70'001}, 0.3);
  at::set_num_threads(3);
  EXPECT_TRUE(same_bits(mask({70'001}, 0.3), whole));
  at::set_num_threads(1);
  for (const std::int64_t first : {1, 2, 3, 4, 6, 1023, 20'000}) {
    MaskKey key = kKey;
    key.first = first;
    EXPECT_TRUE(same_bits(mask({50'001}, 0.3, key), whole.narrow(0, first, 50'001))) << first;
  }
}

TEST(Dropout, GradientsGoWhereTheNumbersWent) {
  const at::Tensor base = numbers({7, 33}, 1).set_requires_grad(true);
  const at::Tensor x = numbers({7, 33}, 2).set_requires_grad(true);
  const at::Tensor y = add_dropped(base, x, 0.4, kKey), drawn = mask({7, 33}, 0.4);
  EXPECT_TRUE(at::equal(y, base + x * drawn));
  const at::Tensor above = numbers({7, 33}, 3);
  torch::autograd::backward({y}, {above});
  EXPECT_TRUE(at::equal(base.grad(), above));
  EXPECT_TRUE(at::equal(x.grad(), above * drawn));
}

TEST(Dropout, WrongTensorsAreErrors) {
  EXPECT_THROW(add_dropped(at::zeros({2, 3}), at::zeros({3, 2}), 0.1, kKey), c10::Error);
  EXPECT_THROW(add_dropped(at::zeros({2}), at::zeros({2}), 1.0, kKey), c10::Error);
  EXPECT_THROW(add_dropped(at::zeros({2}, at::kDouble), at::zeros({2}), 0.1, kKey), c10::Error);
}

Cut dropping(ModelConfig model, double share, const std::vector<int>& layers) {
  model.hidden_dropout = share;
  std::vector<std::size_t> ranks(layers.size(), 1);
  ranks.front() = ranks.back() = 0;
  Cut cut = cut_model(model, layers, ranks);
  cut.slot->batch.draws = BatchDraws{5, 2, {0, 2 * kLength, 4 * kLength}};
  return cut;
}

TEST(Dropout, AnyCutAndSplitOfAModelGivesTheSameBits) {
  for (const ModelConfig& model : {small_model(false), small_mixture()}) {
    Cut whole = dropping(model, 0.2, {4}), none = dropping(model, 0.0, {4});
    train_step(whole, false);
    train_step(none, false);
    EXPECT_NE(whole.losses->losses(), none.losses->losses());
    for (const std::vector<int>& layers : {std::vector{4}, {1, 3}, {2, 1, 1}}) {
      for (const bool split : {false, true}) {
        Cut cut = dropping(model, 0.2, layers);
        train_step(cut, split);
        expect_same_training(whole, cut);
      }
    }
  }
}

TEST(Dropout, ABatchWithoutDrawsDropsNothing) {
  for (const ModelConfig& model : {small_model(false), small_mixture()}) {
    Cut none = dropping(model, 0.0, {4}), validated = dropping(model, 0.2, {4});
    validated.slot->batch.draws.reset();
    train_step(none, false);
    train_step(validated, false);
    expect_same_training(none, validated);
  }
}

// Two segments of a mixture add to the residual: one mask drops the sum of what they add.
TEST(Dropout, OneMaskDropsSharedAndRoutedExperts) {
  ModelConfig model = small_mixture();
  model.hidden_dropout = 0.5;
  const auto slot = std::make_shared<BatchSlot>();
  ParameterStore store;
  const auto segments =
      make_model_segments(model, {1, 2, false, false}, slot, 5, kMaxSequence, store).value();
  for (const Parameter& parameter : store.parameters()) parameter.tensor.detach().mul_(10);
  const std::vector<at::Tensor> routed = segments[0]->forward({numbers({2, kLength, 32}, 1)}, 0);
  const auto join = [&] {
    std::vector<at::Tensor> values = routed;
    for (std::size_t i = 1; i < segments.size(); ++i) values = segments[i]->forward(values, 1);
    return values[0] - routed[0];
  };
  const at::Tensor kept = join();
  slot->batch.draws = BatchDraws{5, 2, {0, 2 * kLength}};
  const at::Tensor dropped = join();
  const at::Tensor drawn =
      mask({2, kLength, 32}, 0.5, {5, 2, 1, Branch::kMlp, 2 * kLength * std::int64_t{32}});
  EXPECT_GT(kept.abs().max().item<float>(), 1e-3f);
  EXPECT_TRUE(at::allclose(dropped, kept * drawn, 1e-4, 1e-6));
}

}  // namespace
}  // namespace plait
