#include "plait/nn/mixture.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "plait/base/write_file.h"
#include "plait/checkpoint/model_folder.h"
#include "plait/checkpoint/safetensors.h"
#include "plait/model/part_memory.h"
#include "plait/torch/autograd_split.h"
#include "plait/torch/memory.h"
#include "tests/support/models.h"

namespace plait {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

TEST(Mixture, AnyCutAndSplitGivesTheSameBits) {
  ModelConfig model = small_mixture();
  model.router_aux_loss_coef = 0.01;
  Cut whole = cut_model(model, {4}, {0});
  train_step(whole, false);
  for (const std::vector<int>& layers : {std::vector{4}, {1, 3}, {2, 1, 1}}) {
    for (const bool split : {false, true}) {
      std::vector<std::size_t> ranks(layers.size(), 1);
      ranks.front() = ranks.back() = 0;
      Cut cut = cut_model(model, layers, ranks);
      train_step(cut, split);
      expect_same_training(whole, cut);
      EXPECT_EQ(cut.loads->sums(), whole.loads->sums());
    }
  }
}

TEST(Mixture, NamesAndShapesAreThoseOfTheWholeModel) {
  const ModelConfig model = small_mixture();
  const Cut cut = cut_model(model, {1, 3}, {0, 0});
  Shapes parameters, buffers;
  for (const Parameter& p : cut.stores[0]->parameters())
    parameters[p.name] = p.tensor.sizes().vec();
  for (const Parameter& p : cut.stores[0]->buffers()) buffers[p.name] = p.tensor.sizes().vec();
  EXPECT_EQ(parameters, parameter_shapes(model));
  EXPECT_EQ(buffers, buffer_shapes(model));
  // Ends; a dense layer of 9; three of 6 for attention and norms, a router, 3 * 6 and 3.
  EXPECT_EQ(parameters.size(), 3u + 9 + 3 * (6 + 1 + 18 + 3));
  EXPECT_EQ(buffers.size(), 3u);
  EXPECT_EQ(cut.stores[0]->count(), parameter_count(model, {0, 4, true, true}));
  EXPECT_EQ(cut.stores[0]->tensors().size(), parameters.size() + buffers.size());
}

// --- One layer, alone or spread over members of a group. ---

constexpr std::int64_t kTokens = 2 * kLength;

/// The six segments of layer 1 on each of `members` ranks.
struct Layer {
  std::vector<std::unique_ptr<ParameterStore>> stores;
  std::vector<std::vector<std::shared_ptr<Segment>>> segments;

  Layer(const ModelConfig& model, int members) {
    for (int member = 0; member < members; ++member) {
      stores.push_back(std::make_unique<ParameterStore>());
      segments.push_back(make_model_segments(model, {1, 2, false, false}, nullptr, 5, kMaxSequence,
                                             *stores.back(), {member, members})
                             .value());
      for (const Parameter& bias : stores.back()->buffers()) {
        bias.tensor.copy_(at::arange(model.n_routed_experts, at::kFloat).fmod(3) * 0.02);
      }
      stores.back()->allocate_gradients();
    }
  }
};

/// What every member has of a tensor, exchanged by rows.
TensorList exchange(const TensorList& tensors, const std::vector<RowSplits>& splits, bool back) {
  const std::size_t members = tensors.size();
  std::vector<TensorList> parts, arrived(members);
  for (std::size_t m = 0; m < members; ++m) {
    parts.push_back(at::split_with_sizes(tensors[m], back ? splits[m].receive : splits[m].send));
  }
  TensorList result;
  for (std::size_t to = 0; to < members; ++to) {
    for (std::size_t from = 0; from < members; ++from) {
      arrived[to].push_back(parts[from][to]);
      const auto& needed = back ? splits[to].send : splits[to].receive;
      EXPECT_EQ(parts[from][to].size(0), needed[from]);
    }
    result.push_back(at::cat(arrived[to]));
  }
  return result;
}

struct LayerForward {
  std::vector<TensorList> values;  ///< of the last segment, by member
  std::vector<std::vector<SavedSegment>> saved;
  std::vector<std::vector<RowSplits>> splits;
};

void exchange_forward(const Layer& layer, std::size_t s, LayerForward& run) {
  TensorList mine;
  std::size_t exchanged = 0;
  for (std::size_t m = 0; m < run.values.size(); ++m) {
    const auto& segment = dynamic_cast<const ExchangeSegment&>(*layer.segments[m][s]);
    exchanged = segment.exchanged();
    run.splits[s].push_back(segment.splits(run.values[m]));
    mine.push_back(run.values[m][exchanged]);
  }
  const TensorList came = exchange(mine, run.splits[s], false);
  for (std::size_t m = 0; m < came.size(); ++m) run.values[m][exchanged] = came[m];
}

LayerForward forward_layer(const Layer& layer, const TensorList& inputs) {
  const std::size_t count = layer.segments[0].size();
  LayerForward run;
  run.saved.resize(count);
  run.splits.resize(count);
  for (const at::Tensor& input : inputs) run.values.push_back({input});
  for (std::size_t s = 0; s < count; ++s) {
    if (dynamic_cast<const ExchangeSegment*>(layer.segments[0][s].get()) != nullptr) {
      exchange_forward(layer, s, run);
      continue;
    }
    for (std::size_t m = 0; m < inputs.size(); ++m) {
      SegmentForward result = run_forward(*layer.segments[m][s], run.values[m], 0, true);
      run.values[m] = std::move(result.outputs);
      run.saved[s].push_back(std::move(result.saved));
    }
  }
  return run;
}

void exchange_backward(const Layer& layer, std::size_t s, const LayerForward& run,
                       std::vector<TensorList>& gradients) {
  const auto& segment = dynamic_cast<const ExchangeSegment&>(*layer.segments[0][s]);
  if (!segment.has_gradient()) return;
  TensorList mine;
  for (const TensorList& of_member : gradients) mine.push_back(of_member[segment.exchanged()]);
  const TensorList back = exchange(mine, run.splits[s], true);
  for (std::size_t m = 0; m < back.size(); ++m) gradients[m][segment.exchanged()] = back[m];
}

struct LayerRun {
  TensorList outputs, input_gradients;  ///< by member
};

/// Forward and backward, split or whole, with the exchanges between the members' segments.
LayerRun run_layer(const Layer& layer, const TensorList& inputs, const TensorList& above,
                   bool split) {
  LayerForward forward = forward_layer(layer, inputs);
  LayerRun run;
  std::vector<TensorList> gradients;
  for (std::size_t m = 0; m < inputs.size(); ++m) {
    run.outputs.push_back(forward.values[m][0]);
    gradients.push_back({above[m]});
  }
  for (std::size_t s = layer.segments[0].size(); s-- > 0;) {
    if (forward.saved[s].empty()) {
      exchange_backward(layer, s, forward, gradients);
      continue;
    }
    for (std::size_t m = 0; m < inputs.size(); ++m) {
      SavedSegment& saved = forward.saved[s][m];
      if (!split) {
        gradients[m] = backward(std::move(saved), std::move(gradients[m]));
        continue;
      }
      SegmentBackwardInput half = backward_input(std::move(saved), std::move(gradients[m]));
      EXPECT_FALSE(half.whole) << layer.segments[m][s]->name();
      gradients[m] = std::move(half.input_gradients);
      backward_weight(std::move(half.saved));
    }
  }
  for (const TensorList& of_member : gradients) run.input_gradients.push_back(of_member[0]);
  return run;
}

at::Tensor numbers(unsigned seed) {
  ParameterStore store;
  const at::Tensor x = store.create("x", {2, kLength, 32});
  fill_normal(x, seed, "x", 1.0);
  return x.detach();
}

void expect_close(const at::Tensor& a, const at::Tensor& b, const std::string& what) {
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  const double scale = b.abs().max().item<double>();
  EXPECT_LE((a - b).abs().max().item<double>(), 1e-5 * scale) << what;
  EXPECT_GT(scale, 0.0) << what;
}

/// The layer's mixture in plain torch: every expert on every token, by weight or by 0.
struct PlainLayer {
  const ModelConfig& model;
  std::map<std::string, at::Tensor> weights;
  at::Tensor auxiliary;

  at::Tensor swiglu_of(const at::Tensor& x, const std::string& prefix) {
    const auto get = [&](const char* name) { return weights.at(prefix + name).t(); };
    return at::mm(at::silu(at::mm(x, get("gate_proj.weight"))) * at::mm(x, get("up_proj.weight")),
                  get("down_proj.weight"));
  }
  at::Tensor operator()(const at::Tensor& x) {
    const auto get = [&](const char* rest) { return weights.at(layer_name(1, rest)); };
    std::vector<Parameter> parameters;
    for (const auto& [name, tensor] : weights)
      if (layer_of(name) == 1) parameters.push_back({name, tensor});
    const Attention attention(
        model, parameters,
        std::make_shared<const RotaryTable>(make_rotary_table(kMaxSequence, 8, 1e4)));
    const at::Tensor residual = attention.add_to(x, /*microbatch=*/0);
    const at::Tensor h = rms_norm(residual, get("post_attention_layernorm.weight"), 1e-5);
    const at::Tensor scores = at::sigmoid(at::mm(h, get("mlp.gate.weight").t()));
    const at::Tensor chosen =
        std::get<1>(at::topk(scores.detach() + get("mlp.gate.e_score_correction_bias"), 2));
    at::Tensor share = scores.gather(1, chosen);
    share = share / share.sum(1, true) * model.routed_scaling_factor;
    const at::Tensor shares = at::zeros_like(scores).scatter(1, chosen, share);
    at::Tensor y = residual + swiglu_of(h, "model.layers.1.mlp.shared_experts.");
    for (int expert = 0; expert < model.n_routed_experts; ++expert) {
      y = y + swiglu_of(h, expert_name(1, expert, "")) * shares.narrow(1, expert, 1);
    }
    const at::Tensor frequency = at::bincount(chosen.reshape({-1}), {}, 6).to(at::kFloat) *
                                 (6.0 / static_cast<double>(2 * kTokens));
    auxiliary =
        (frequency * (scores / scores.sum(1, true)).mean(0)).sum() * model.router_aux_loss_coef;
    return y.view(x.sizes());
  }
};

TEST(MixtureLayer, IsThePlainFormulaWithItsAuxiliaryLoss) {
  ModelConfig model = small_mixture();
  model.router_aux_loss_coef = 50.0;  // as large as the rest, so that it shows
  for (const bool split : {false, true}) {
    Layer layer(model, 1);
    const at::Tensor x = numbers(1), above = numbers(2);
    const LayerRun run = run_layer(layer, {x}, {above}, split);
    PlainLayer plain{model, {}, {}};
    for (const Parameter& p : layer.stores[0]->tensors()) {
      plain.weights[p.name] = p.tensor.detach().clone();
      if (p.tensor.requires_grad()) plain.weights[p.name].set_requires_grad(true);
    }
    const at::Tensor input = x.clone().set_requires_grad(true);
    const at::Tensor y = plain(input);
    torch::autograd::backward({(y * above).sum() + plain.auxiliary});
    expect_close(run.outputs[0], y.detach(), "output");
    expect_close(run.input_gradients[0], input.grad(), "input");
    for (const Parameter& p : layer.stores[0]->parameters()) {
      expect_close(p.tensor.grad(), plain.weights[p.name].grad(), p.name);
    }
  }
}

TEST(MixtureLayer, SpreadOverAGroupItIsTheSameLayer) {
  const ModelConfig model = small_mixture();
  for (const int members : {2, 3}) {
    for (const bool split : {false, true}) {
      Layer alone(model, 1), spread(model, members);
      TensorList inputs, above;
      for (unsigned m = 0; m < static_cast<unsigned>(members); ++m) {
        inputs.push_back(numbers(m));
        above.push_back(numbers(10 + m));
      }
      const LayerRun found = run_layer(spread, inputs, above, split);
      for (std::size_t m = 0; m < inputs.size(); ++m) {
        const LayerRun needed = run_layer(alone, {inputs[m]}, {above[m]}, false);
        expect_close(found.outputs[m], needed.outputs[0], "output");
        expect_close(found.input_gradients[m], needed.input_gradients[0], "input");
      }
      for (const Parameter& p : alone.stores[0]->parameters()) {
        at::Tensor sum = at::zeros_like(p.tensor.detach());
        int holders = 0;
        for (const auto& store : spread.stores) {
          if (!store->contains(p.name)) continue;
          sum += store->find(p.name).grad();
          ++holders;
        }
        EXPECT_EQ(holders, expert_of(p.name) ? 1 : members) << p.name;
        expect_close(sum, p.tensor.grad(), p.name);
      }
    }
  }
}

TEST(MixtureLayer, AnExpertWithoutRowsHasNoGradient) {
  for (const bool split : {false, true}) {
    Layer layer(small_mixture(), 2);
    for (const auto& store : layer.stores) {
      store->find(router_bias_name(1)).copy_(at::tensor({0.f, 0.f, -9.f, -9.f, -9.f, -9.f}));
    }
    run_layer(layer, {numbers(1), numbers(2)}, {numbers(3), numbers(4)}, split);
    for (const auto& store : layer.stores) {
      for (const Parameter& p : store->parameters()) {
        const auto expert = expert_of(p.name);
        const bool idle = expert && expert->expert >= 2;
        EXPECT_EQ(p.tensor.grad().abs().sum().item<float>() == 0.0f, idle) << p.name;
      }
    }
  }
}

TEST(MixtureLayer, RowsThatTheCountsDoNotKnowAreAnError) {
  Layer layer(small_mixture(), 1);
  TensorList values = run_forward(*layer.segments[0][0], {numbers(1)}, 0, false).outputs;
  values[2] = values[2].narrow(0, 1, values[2].size(0) - 1);
  EXPECT_THROW(run_forward(*layer.segments[0][3], values, 0, false), SegmentError);
}

TEST(MixtureLayer, WithoutSharedExpertsOnlyTheRoutedOnesAdd) {
  ModelConfig model = small_mixture();
  model.n_shared_experts = 0;
  Cut whole = cut_model(model, {4}, {0}), split = cut_model(model, {2, 2}, {0, 0});
  train_step(whole, false);
  train_step(split, true);
  expect_same_training(whole, split);
}

// --- Loads and biases. ---

TEST(RouterLoads, AMicrobatchThatRunsAgainCountsOnce) {
  Cut cut = cut_model(small_mixture(), {4}, {0});
  train_step(cut, false);
  const LayerLoads once = cut.loads->sums();
  ASSERT_EQ(once.size(), 3u);
  for (const auto& [layer, loads] : once) {
    EXPECT_GE(layer, 1);
    EXPECT_EQ(std::accumulate(loads.begin(), loads.end(), std::int64_t{0}),
              kMicrobatches * kTokens * 2);
  }
  ASSERT_TRUE(cut.stages[0]->forward({0, 1}, nullptr, false));
  EXPECT_EQ(cut.loads->sums(), once);
  cut.loads->reset(kMicrobatches);
  EXPECT_TRUE(cut.loads->sums().empty());
}

TEST(RouterLoads, TheBiasFollowsTheSignOfWhatIsMissing) {
  ParameterStore store;
  const at::Tensor bias = store.create_buffer(router_bias_name(2), {4});
  update_router_bias(store, {{2, {1, 2, 3, 2}}, {3, {9, 9, 9, 9}}}, 0.5);
  EXPECT_TRUE(at::equal(bias, at::tensor({0.5f, 0.0f, -0.5f, 0.0f})));
  EXPECT_TRUE(store.parameters().empty());
}

// With every step the tokens spread more evenly than without.
TEST(RouterLoads, TheBiasBalances) {
  const auto spread_after = [](double speed) {
    Cut cut = cut_model(small_mixture(), {4}, {0});
    // An untrained router has no favourites; this one has.
    cut.stores[0]->find(layer_name(1, "mlp.gate.weight")).detach().mul_(30.0);
    std::int64_t spread = 0;
    for (int step = 0; step < 60; ++step) {
      cut.loads->reset(kMicrobatches);
      for (int mb = 0; mb < kMicrobatches; ++mb) {
        EXPECT_TRUE(cut.stages[0]->forward({0, mb}, nullptr, false));
      }
      const std::vector<std::int64_t> loads = cut.loads->sums().at(1);
      spread = *std::max_element(loads.begin(), loads.end()) -
               *std::min_element(loads.begin(), loads.end());
      update_router_bias(*cut.stores[0], cut.loads->sums(), speed);
    }
    return spread;
  };
  EXPECT_LT(spread_after(0.01), spread_after(0.0) / 2);
}

TEST(Names, OfExpertsAreKnown) {
  EXPECT_EQ(expert_of("model.layers.12.mlp.experts.7.up_proj.weight"), (ExpertOfLayer{12, 7}));
  for (const char* name :
       {"model.layers.1.mlp.shared_experts.up_proj.weight", "model.layers.1.mlp.gate.weight",
        "model.embed_tokens.weight", "model.layers.1.mlp.experts.x.up_proj.weight",
        "model.layers..mlp.experts.1.up_proj.weight", ""}) {
    EXPECT_FALSE(expert_of(name)) << name;
  }
}

TEST(MixtureMemory, WhatIsSavedIsWhatTheAllocatorCounts) {
  install_counting_allocator();
  const ModelConfig model = small_mixture();
  Cut cut = cut_model(model, {1, 2, 1}, {0, 1, 2});
  Value input = cut.stages[0]->forward({0, 0}, nullptr, true).value().output;
  MemoryAccount account;
  ForwardResult result;
  {
    const ScopedAccount scope(account);
    result = cut.stages[1]->forward({0, 0}, std::move(input), true).value();
  }
  // Made beside its input, which it saves, is its output, which the next stage saves.
  const PartMemory memory = part_memory(model, {1, 3, false, false}, {2, kLength}, {}).back();
  EXPECT_LE(account.live(), memory.saved);
  EXPECT_GE(static_cast<double>(account.live()), 0.95 * static_cast<double>(memory.saved));
}

TEST(MixtureMemory, WhatIsSavedHoldsForAGroup) {
  install_counting_allocator();
  const ModelConfig model = small_mixture();
  const Layer layer(model, 2);
  const TensorList inputs = {numbers(1), numbers(2)};
  MemoryAccount account;
  LayerForward run;
  {
    const ScopedAccount scope(account);
    run = forward_layer(layer, inputs);
  }
  // Members have unequal loads, their sum is that of even ones.
  Bytes saved = 0;
  for (const PartMemory& part : part_memory(model, {1, 2, false, false}, {2, kLength, 2, 1.0}, {}))
    saved += 2 * part.saved;
  EXPECT_LE(account.live(), saved);
  EXPECT_GE(static_cast<double>(account.live()), 0.95 * static_cast<double>(saved));
}

std::string make_error(const ModelConfig& model, GroupPlace place) {
  ParameterStore store;
  const auto result =
      make_model_segments(model, {0, 4, true, true}, nullptr, 1, kMaxSequence, store, place);
  EXPECT_FALSE(result);
  return result ? "" : result.error().message;
}

TEST(Mixture, ExpertsThatDoNotSpreadAreAnError) {
  EXPECT_THAT(make_error(small_mixture(), {0, 4}),
              HasSubstr("n_routed_experts is 6, must be a multiple of 4 expert ranks"));
  EXPECT_THAT(make_error(small_model(false), {0, 2}), HasSubstr("architecture is llama"));
}

// --- Folders. ---

class MixtureFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        (fs::temp_directory_path() / ("plait_mixture_" + std::to_string(::getpid()))).string();
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// Of `model` with biases that are not 0.
  std::vector<Parameter> write(const ModelConfig& model) {
    LanguageModel made = LanguageModel::make(model, 9, kMaxSequence).value();
    for (const Parameter& bias : made.store().buffers()) bias.tensor.fill_(0.25);
    EXPECT_TRUE(write_model_folder(folder_, model, kMaxSequence, made.store().tensors()));
    return made.store().tensors();
  }
  std::string error_after(const std::string& from, const std::string& to) {
    write(small_mixture());
    std::ifstream in(folder_ + "/config.json");
    std::string text{std::istreambuf_iterator<char>(in), {}};
    const auto at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    EXPECT_TRUE(write_file_atomically(folder_ + "/config.json", text));
    const auto read = read_model_config(folder_);
    EXPECT_FALSE(read);
    return read ? "" : read.error().message;
  }
  std::string folder_;
};

TEST_F(MixtureFolder, GoesThereAndBack) {
  for (const char* scoring : {"sigmoid", "softmax"}) {
    ModelConfig model = small_mixture();
    model.scoring_func = scoring;
    model.norm_topk_prob = false;
    const std::vector<Parameter> written = write(model);
    ModelConfig job;
    job.bias_update_speed = model.bias_update_speed = 0.5;
    job.router_aux_loss_coef = model.router_aux_loss_coef = 0.125;
    model.init = folder_;
    EXPECT_EQ(read_model_config(folder_, job).value(), model);
    LanguageModel read = load_language_model(folder_, kMaxSequence).value();
    for (const Parameter& p : written) {
      EXPECT_TRUE(same_bits(p.tensor, read.store().find(p.name))) << p.name;
    }
  }
}

TEST_F(MixtureFolder, AMemberLoadsItsExperts) {
  const ModelConfig model = small_mixture();
  const std::vector<Parameter> written = write(model);
  ParameterStore store;
  ASSERT_TRUE(
      make_model_segments(model, {1, 2, false, false}, nullptr, 1, kMaxSequence, store, {1, 3}));
  ASSERT_TRUE(load_parameters(folder_, model, store));
  int experts = 0;
  for (const Parameter& p : written) {
    const auto expert = expert_of(p.name);
    const bool mine = expert && expert->layer == 1 && expert->expert / 2 == 1;
    if (expert) {
      EXPECT_EQ(store.contains(p.name), mine) << p.name;
    }
    experts += mine ? 1 : 0;
    if (store.contains(p.name)) {
      EXPECT_TRUE(same_bits(p.tensor, store.find(p.name))) << p.name;
    }
  }
  EXPECT_EQ(experts, 2 * 3);
  EXPECT_EQ(store.count(), parameter_count(model, {1, 2, false, false}, 3));
  EXPECT_EQ(store.find(router_bias_name(1)).max().item<float>(), 0.25f);
}

TEST_F(MixtureFolder, WhatThisModelLacksIsAnError) {
  EXPECT_THAT(error_after("\"n_group\": 1", "\"n_group\": 4"),
              HasSubstr("n_group is 4, this version knows only 1"));
  EXPECT_THAT(error_after("\"topk_group\": 1", "\"topk_group\": 2"), HasSubstr("topk_group is 2"));
  EXPECT_THAT(error_after("\"use_qk_norm\": false", "\"use_qk_norm\": true"),
              HasSubstr("use_qk_norm is true"));
  EXPECT_THAT(error_after("\"partial_rotary_factor\": 1.0", "\"partial_rotary_factor\": 0.5"),
              HasSubstr("partial_rotary_factor is 0.5"));
  EXPECT_THAT(error_after("\"partial_rotary_factor\"", "\"other\""),
              HasSubstr("partial_rotary_factor is missing, which means 0.5"));
  EXPECT_THAT(error_after("\"glm4_moe\"", "\"deepseek_v3\""),
              HasSubstr("model_type is deepseek_v3"));
  EXPECT_THAT(error_after("\"sigmoid\"", "\"softmax\""), HasSubstr("scoring_func"));
  EXPECT_THAT(error_after("\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 0"),
              HasSubstr("num_experts_per_tok is 0"));
}

}  // namespace
}  // namespace plait
