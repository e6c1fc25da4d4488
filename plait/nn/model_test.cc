#include "plait/nn/model.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "plait/base/write_file.h"
#include "plait/checkpoint/model_folder.h"
#include "plait/checkpoint/safetensors.h"
#include "plait/model/part_memory.h"
#include "plait/torch/memory.h"
#include "tests/support/models.h"

namespace plait {
namespace {

// The tensors are small, and threads that spin for each other are slow on a busy machine.
[[maybe_unused]] const bool kOneThread = (at::set_num_threads(1), true);

using testing::HasSubstr;
namespace fs = std::filesystem;

class Llama : public testing::TestWithParam<bool> {};  // tied or not

TEST_P(Llama, AnyCutAndSplitGivesTheSameBits) {
  const ModelConfig model = small_model(GetParam());
  Cut whole = cut_model(model, {4}, {0});
  train_step(whole, false);
  EXPECT_NEAR(whole.losses->mean(), std::log(40.0), 0.1);  // untrained: all words equally likely
  for (const std::vector<int>& layers : {std::vector{4}, {1, 3}, {2, 1, 1}, {1, 1, 1, 1}}) {
    for (const bool split : {false, true}) {
      // The first and the last stage share a rank, as in the v placement.
      std::vector<std::size_t> ranks(layers.size(), 1);
      ranks.front() = ranks.back() = 0;
      Cut cut = cut_model(model, layers, ranks);
      train_step(cut, split);
      expect_same_training(whole, cut);
    }
  }
}

TEST_P(Llama, NamesAndShapesAreThoseOfTheWholeModel) {
  const ModelConfig model = small_model(GetParam());
  const Cut cut = cut_model(model, {1, 3}, {0, 0});
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const Parameter& p : cut.stores[0]->parameters()) shapes[p.name] = p.tensor.sizes().vec();
  EXPECT_EQ(shapes, parameter_shapes(model));
  EXPECT_EQ(shapes.size(), 4 * 9 + (GetParam() ? 2u : 3u));
  EXPECT_EQ(cut.stores[0]->count(), parameter_count(model, {0, 4, true, true}));
}

INSTANTIATE_TEST_SUITE_P(Tied, Llama, testing::Bool());

TEST(LlamaMemory, TheEstimateIsWhatTheAllocatorCounts) {
  install_counting_allocator();
  const ModelConfig model = small_model(false);
  const std::vector<int> layers = {2, 1, 1};
  Cut cut = cut_model(model, layers, {0, 1, 2});
  const auto parts = partition_layers(model, 3, kLength, layers).value();
  std::vector<ForwardResult> results(3);
  for (std::size_t s = 0; s < 3; ++s) {
    MemoryAccount account;
    {
      const ScopedAccount scope(account);
      Value input = s == 0 ? nullptr : std::move(results[s - 1].output);
      results[s] = cut.stages[s]->forward({0, 0}, std::move(input), true).value();
    }
    const PartMemory memory = part_memory(model, parts[s], {2, kLength}, {}).back();
    // A stage saves its input, which was counted where it was made, and has made its output, which
    // the next saves. The embedding makes what its first layer saves.
    const Bytes message = Bytes{4} * 2 * kLength * model.hidden_size;
    const Bytes made = account.live() + (s == 0 ? 0 : message) - (s == 2 ? 0 : message);
    EXPECT_LE(made, memory.saved) << "stage " << s;
    EXPECT_GE(static_cast<double>(made), 0.97 * static_cast<double>(memory.saved)) << "stage " << s;
  }
}

TEST(LlamaParameters, DependOnSeedAndNameOnly) {
  const ModelConfig model = small_model(false);
  const Cut whole = cut_model(model, {4}, {0}), parts = cut_model(model, {1, 2, 1}, {0, 1, 2});
  for (const auto& store : parts.stores) {
    for (const Parameter& p : store->parameters()) {
      EXPECT_TRUE(same_bits(p.tensor, whole.stores[0]->find(p.name))) << p.name;
    }
  }
}

TEST(LlamaParameters, AreNormalWithTheirDeviation) {
  ParameterStore store;
  const at::Tensor tensor = store.create("x", {400, 500});
  fill_normal(tensor, 3, "x", 0.02);
  const at::Tensor x = tensor.detach().to(at::kDouble) / 0.02;
  // 200,000 draws: the mean is within 5 / sqrt(200000) = 0.011, the variance within 5 * sqrt(2 / n)
  // = 0.016, and the share within one deviation is 0.683.
  EXPECT_NEAR(x.mean().item<double>(), 0.0, 0.011);
  EXPECT_NEAR((x * x).mean().item<double>(), 1.0, 0.016);
  EXPECT_NEAR((x.abs() < 1.0).to(at::kDouble).mean().item<double>(), 0.683, 0.01);
  const at::Tensor other = store.create("y", {400, 500});
  fill_normal(other, 3, "y", 0.02);
  EXPECT_FALSE(at::equal(tensor, other));
  fill_normal(other, 4, "x", 0.02);
  EXPECT_FALSE(at::equal(tensor, other));
}

// The first numbers of (seed 1, "a"), from the same formula in Python: a change would change every
// model made from a seed.
TEST(LlamaParameters, AreTheSameForEver) {
  ParameterStore store;
  const at::Tensor tensor = store.create("a", {3});
  fill_normal(tensor, 1, "a", 1.0);
  const auto* data = static_cast<const float*>(tensor.data_ptr());
  EXPECT_FLOAT_EQ(data[0], 1.25522520f);
  EXPECT_FLOAT_EQ(data[1], 0.61306390f);
  EXPECT_FLOAT_EQ(data[2], -1.16982048f);
}

TEST(LlamaParameters, ResidualProjectionsAreSmallerAndNormsAreOne) {
  const Cut cut = cut_model(small_model(false), {4}, {0});
  const auto deviation = [&](const char* name) {
    return cut.stores[0]->find(name).detach().std().item<double>();
  };
  EXPECT_NEAR(deviation("model.layers.1.mlp.up_proj.weight"), 0.02, 0.002);
  // 4 layers have 8 residual additions: 0.02 / sqrt(8) = 0.00707.
  EXPECT_NEAR(deviation("model.layers.1.mlp.down_proj.weight"), 0.00707, 0.0007);
  EXPECT_EQ(cut.stores[0]->find("model.norm.weight").min().item<float>(), 1.0f);
}

TEST(LlamaStore, TiedGradientsAccumulateApartAndAddOnce) {
  ParameterStore store;
  const at::Tensor first = store.create("w", {3});
  const at::Tensor second = store.alias("w");
  EXPECT_EQ(first.data_ptr(), second.data_ptr());
  store.allocate_gradients();
  first.mutable_grad().fill_(1.0);
  second.mutable_grad().fill_(2.0);
  store.add_alias_gradients();
  store.add_alias_gradients();  // nothing is left to add
  EXPECT_EQ(first.grad().sum().item<float>(), 3 * 3.0f);
  EXPECT_EQ(store.parameters().size(), 1u);
  store.zero_gradients();
  EXPECT_EQ(first.grad().abs().sum().item<float>(), 0.0f);
}

TEST(LanguageModelTest, ATokenSeesOnlyWhatIsBeforeIt) {
  LanguageModel model = LanguageModel::make(small_model(true), 1, kMaxSequence).value();
  at::Tensor tokens = at::arange(kLength, at::kLong).view({1, kLength});
  const at::Tensor before = model.logits(tokens).value();
  EXPECT_EQ(before.sizes(), (std::vector<std::int64_t>{1, kLength, 40}));
  tokens = tokens.clone();
  tokens[0][7] = 39;
  const at::Tensor after = model.logits(tokens).value();
  EXPECT_TRUE(at::equal(before.narrow(1, 0, 7), after.narrow(1, 0, 7)));
  EXPECT_FALSE(at::equal(before.narrow(1, 7, 1), after.narrow(1, 7, 1)));
}

TEST(LanguageModelTest, PositionsMatter) {
  LanguageModel model = LanguageModel::make(small_model(true), 1, kMaxSequence).value();
  const at::Tensor a = at::tensor({5, 6, 7, 8}, at::kLong).view({1, 4});
  const at::Tensor b = at::tensor({6, 5, 7, 8}, at::kLong).view({1, 4});
  // Without positions attention from the last token sees the same set in both.
  EXPECT_FALSE(at::allclose(model.logits(a).value().select(1, 3),
                            model.logits(b).value().select(1, 3), 1e-7, 1e-7));
}

TEST(LanguageModelTest, BadTokensAndLengthsAreErrors) {
  LanguageModel model = LanguageModel::make(small_model(true), 1, kMaxSequence).value();
  const auto message = [&](const at::Tensor& tokens) {
    const auto result = model.logits(tokens);
    EXPECT_FALSE(result);
    return result ? "" : result.error().message;
  };
  EXPECT_THAT(message(at::full({1, 3}, 40, at::kLong)), HasSubstr("token is 40"));
  EXPECT_THAT(message(at::full({1, 3}, -1, at::kLong)), HasSubstr("token is -1"));
  EXPECT_THAT(message(at::zeros({1, 17}, at::kLong)), HasSubstr("17 tokens"));
}

/// Queries and keys of heads of a size of their own, with biases or norms that the training moves.
ModelConfig small_family(const char* architecture) {
  ModelConfig model = small_model(false);
  model.architecture = architecture;
  model.head_dim = 10;
  return model;
}

class Family : public testing::TestWithParam<const char*> {};

TEST_P(Family, AnyCutAndSplitGivesTheSameBits) {
  const ModelConfig model = small_family(GetParam());
  Cut whole = cut_model(model, {4}, {0});
  train_step(whole, false);
  for (const std::vector<int>& layers : {std::vector{4}, {1, 3}, {0, 2, 2, 0}}) {
    std::vector<std::size_t> ranks(layers.size());
    std::iota(ranks.begin(), ranks.end(), std::size_t{0});
    Cut cut = cut_model(model, layers, ranks);
    train_step(cut, true);
    expect_same_training(whole, cut);
  }
}

// A bias or a head's norm that a forward leaves out has no gradient, so all of them are moved.
TEST_P(Family, GradientsAreThoseOfSmallSteps) {
  const ModelConfig model = small_family(GetParam());
  Cut cut = cut_model(model, {4}, {0});
  train_step(cut, true);
  const double before = cut.losses->mean();
  double predicted = 0;
  for (const Parameter& p : cut.stores[0]->parameters()) {
    const bool layers_own = p.name.find("bias") != std::string::npos ||
                            p.name.find("q_norm") != std::string::npos ||
                            p.name.find("k_norm") != std::string::npos;
    if (GetParam() != std::string("mistral") && !layers_own) continue;
    // The gradients of a step are sums over its micro-batches, its loss is their mean.
    const at::Tensor step = p.tensor.grad() * (0.02 / p.tensor.grad().norm());
    predicted += (step * p.tensor.grad()).sum().item<double>() / kMicrobatches;
    p.tensor.detach().add_(step);
  }
  EXPECT_GT(predicted, 1e-5);
  Cut moved = cut_model(model, {4}, {0});
  for (const Parameter& p : moved.stores[0]->parameters())
    p.tensor.detach().copy_(cut.stores[0]->find(p.name).detach());
  train_step(moved, false);
  EXPECT_NEAR(moved.losses->mean() - before, predicted, 0.1 * predicted);
}

INSTANTIATE_TEST_SUITE_P(All, Family, testing::Values("qwen2", "qwen3", "mistral"));

TEST(LlamaEnds, EmbeddingAndHeadAreStagesOfTheirOwn) {
  for (const bool tied : {false, true}) {
    const ModelConfig model = small_model(tied);
    Cut whole = cut_model(model, {4}, {0});
    train_step(whole, false);
    for (const bool split : {false, true}) {
      Cut cut = cut_model(model, {0, 3, 1, 0}, {0, 1, 2, 0});
      train_step(cut, split);
      expect_same_training(whole, cut);
    }
  }
}

std::string make_error(const ModelConfig& model, const StagePart& part) {
  ParameterStore store;
  const auto result = make_model_segments(model, part, nullptr, 1, kMaxSequence, store);
  EXPECT_FALSE(result);
  return result ? "" : result.error().message;
}

TEST(LanguageModelTest, ShapesThatDoNotDivideAreErrors) {
  const StagePart whole{0, 4, true, true};
  ModelConfig model = small_model(false);
  model.num_attention_heads = 5;
  EXPECT_THAT(make_error(model, whole), HasSubstr("hidden_size is 32"));
  model = small_model(false);
  model.num_key_value_heads = 3;
  EXPECT_THAT(make_error(model, whole), HasSubstr("num_key_value_heads 3"));
  model = small_model(false);
  model.num_attention_heads = model.num_key_value_heads = 32;
  EXPECT_THAT(make_error(model, whole), HasSubstr("even"));
}

TEST(LanguageModelTest, ATiedHeadNeedsTheEmbeddingOnItsRank) {
  EXPECT_THAT(make_error(small_model(true), {2, 4, false, true}), HasSubstr("tie_word_embeddings"));
}

class ModelFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = (fs::temp_directory_path() / ("plait_model_" + std::to_string(::getpid()))).string();
    LanguageModel model = LanguageModel::make(model_, 9, kMaxSequence).value();
    parameters_ = model.store().tensors();
    ASSERT_TRUE(write_model_folder(folder_, model_, kMaxSequence, parameters_));
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string load_error() {
    const auto model = load_language_model(folder_, kMaxSequence);
    EXPECT_FALSE(model);
    return model ? "" : model.error().text();
  }
  void rewrite(const std::vector<Parameter>& parameters) {
    ASSERT_TRUE(write_safetensors(folder_ + "/model.safetensors", parameters, {}));
  }
  void change_config(const std::string& from, const std::string& to) {
    std::ifstream in(folder_ + "/config.json");
    std::string text{std::istreambuf_iterator<char>(in), {}};
    const auto at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    ASSERT_TRUE(write_file_atomically(folder_ + "/config.json", text));
  }

  ModelConfig model_ = small_model(false);
  std::string folder_;
  std::vector<Parameter> parameters_;
};

TEST_F(ModelFolder, GoesThereAndBack) {
  const ModelConfig read = read_model_config(folder_).value();
  EXPECT_EQ(read.init, folder_);
  EXPECT_EQ(read.vocab_size, model_.vocab_size);
  EXPECT_EQ(read.intermediate_size, model_.intermediate_size);
  EXPECT_EQ(read.num_key_value_heads, 2);
  EXPECT_EQ(read.rope_theta, model_.rope_theta);
  EXPECT_EQ(read.rms_norm_eps, model_.rms_norm_eps);
  EXPECT_FALSE(read.tie_word_embeddings);
  LanguageModel model = load_language_model(folder_, kMaxSequence).value();
  for (const Parameter& p : parameters_) {
    EXPECT_TRUE(same_bits(p.tensor, model.store().find(p.name))) << p.name;
  }
}

TEST_F(ModelFolder, ARankLoadsItsShare) {
  ParameterStore store;
  ASSERT_TRUE(make_model_segments(model_, {1, 2, false, false}, nullptr, 1, kMaxSequence, store));
  ASSERT_TRUE(load_parameters(folder_, model_, store));
  EXPECT_EQ(store.parameters().size(), 9u);
  for (const Parameter& p : parameters_) {
    if (!store.contains(p.name)) continue;
    EXPECT_TRUE(same_bits(p.tensor, store.find(p.name))) << p.name;
  }
}

TEST_F(ModelFolder, MissingExtraAndMisshapenTensorsAreNamed) {
  std::vector<Parameter> changed = parameters_;
  changed.erase(changed.begin());
  rewrite(changed);
  EXPECT_THAT(load_error(), HasSubstr("tensor " + parameters_[0].name + " is missing"));
  changed = parameters_;
  changed.push_back({"model.layers.4.mlp.up_proj.weight", changed[0].tensor});
  rewrite(changed);
  EXPECT_THAT(load_error(), HasSubstr("model.layers.4.mlp.up_proj.weight is not one of"));
  changed = parameters_;
  changed[0].tensor = changed[0].tensor.detach().narrow(0, 0, 1);
  rewrite(changed);
  EXPECT_THAT(load_error(), HasSubstr("needs [40, 32]"));
}

/// The notes of a folder that loads.
std::vector<std::string> notes_of(const std::string& folder) {
  std::vector<std::string> notes;
  const auto model = load_language_model(folder, kMaxSequence, &notes);
  EXPECT_TRUE(model) << model.error().text();
  return notes;
}

TEST_F(ModelFolder, WhatTransformersSkipIsSkippedWithANote) {
  EXPECT_TRUE(notes_of(folder_).empty());
  std::vector<Parameter> more = parameters_;
  for (const char* name : {"model.layers.0.self_attn.rotary_emb.inv_freq",
                           "model.layers.1.self_attn.rotary_emb.inv_freq"})
    more.push_back({name, at::zeros({4})});
  rewrite(more);
  EXPECT_THAT(notes_of(folder_),
              testing::ElementsAre("2 buffers are skipped, rotary positions are computed: "
                                   "model.layers.0.self_attn.rotary_emb.inv_freq, …"));
  // A layer behind the last is one of the model's only if config.json says what it is for.
  more.push_back({"model.layers.4.eh_proj.weight", at::zeros({32, 64})});
  rewrite(more);
  EXPECT_THAT(load_error(), HasSubstr("model.layers.4.eh_proj.weight is not one of"));
  change_config("\"hidden_size\"", "\"num_nextn_predict_layers\": 1, \"hidden_size\"");
  EXPECT_THAT(notes_of(folder_),
              testing::Contains("layer 4 is skipped (1 tensors): it is multi-token prediction "
                                "behind num_hidden_layers 4"));
  more.push_back({"model.layers.5.eh_proj.weight", at::zeros({32, 64})});
  rewrite(more);
  EXPECT_THAT(load_error(), HasSubstr("model.layers.5.eh_proj.weight is not one of"));
}

TEST_F(ModelFolder, OtherFloatsAreReadAndOtherDtypesNamed) {
  for (const at::ScalarType type : {at::kDouble, at::kHalf, at::kBFloat16}) {
    std::vector<Parameter> changed;
    for (const Parameter& p : parameters_) changed.push_back({p.name, p.tensor.detach().to(type)});
    rewrite(changed);
    LanguageModel model = load_language_model(folder_, kMaxSequence).value();
    for (const Parameter& p : changed) {
      EXPECT_TRUE(same_bits(p.tensor.to(at::kFloat), model.store().find(p.name))) << p.name;
    }
  }
  const std::string path = folder_ + "/model.safetensors";
  ASSERT_TRUE(write_safetensors(path, parameters_, {}));
  std::ifstream in(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), {}};
  bytes.replace(bytes.find("F32"), 3, "I32");
  ASSERT_TRUE(write_file_atomically(path, bytes));
  EXPECT_THAT(load_error(), HasSubstr("is I32, this version reads F64, F32, F16, BF16"));
}

TEST_F(ModelFolder, WhatStandsInPlaceOfTensorsIsNamed) {
  const std::string path = folder_ + "/model.safetensors";
  ASSERT_TRUE(write_file_atomically(path,
                                    "version https://git-lfs.github.com/spec/v1\n"
                                    "oid sha256:4d7a\nsize 14483464192\n"));
  EXPECT_THAT(load_error(), HasSubstr("is a git-lfs pointer, needed the file it stands for"));
  fs::remove(path);
  EXPECT_THAT(load_error(), HasSubstr("needs model.safetensors or model.safetensors.index.json"));
  std::ofstream(folder_ + "/pytorch_model.bin") << "x";
  EXPECT_THAT(load_error(), HasSubstr("found pytorch_model.bin, which is not read"));
  const std::string index = folder_ + "/model.safetensors.index.json";
  ASSERT_TRUE(write_file_atomically(index, "{\"weight_map\": {\"a\": \"one.safetensors\"}}"));
  EXPECT_THAT(load_error(), HasSubstr("shard one.safetensors is missing, needed by"));
  fs::create_directory(folder_ + "/one.safetensors");
  EXPECT_THAT(load_error(), HasSubstr("is a folder"));
  fs::remove(folder_ + "/config.json");
  const auto model = load_language_model(folder_, kMaxSequence);
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kInvalidInput);
}

TEST_F(ModelFolder, ATiedModelMayHoldItsTableTwiceButNoOther) {
  const ModelConfig tied = small_model(true);
  LanguageModel made = LanguageModel::make(tied, 9, kMaxSequence).value();
  std::vector<Parameter> tensors = made.store().tensors();
  ASSERT_TRUE(write_model_folder(folder_, tied, kMaxSequence, tensors));
  tensors.push_back({kHeadName, made.store().find(kEmbeddingName).detach().clone()});
  rewrite(tensors);
  EXPECT_TRUE(notes_of(folder_).empty());
  tensors.back().tensor[39][31] += 1;
  rewrite(tensors);
  EXPECT_THAT(load_error(), HasSubstr("lm_head.weight differs from model.embed_tokens.weight"));
}

TEST_F(ModelFolder, AFolderOfAnotherModelIsAnError) {
  ParameterStore store;
  ModelConfig other = model_;
  other.num_attention_heads = 2;  // same shapes, another model
  const auto result = load_parameters(folder_, other, store);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("num_attention_heads is 4, the job needs 2"));
}

TEST_F(ModelFolder, ConfigsOfOtherModelsAreErrors) {
  change_config("\"silu\"", "\"gelu\"");
  EXPECT_THAT(load_error(), HasSubstr("hidden_act is \"gelu\""));
  change_config("\"gelu\"", "\"silu\"");
  change_config("\"attention_bias\": false", "\"attention_bias\": true");
  EXPECT_THAT(load_error(), HasSubstr("attention_bias is true"));
  change_config("\"attention_bias\": true", "\"attention_bias\": false");
  change_config("\"default\"", "\"llama3\"");
  EXPECT_THAT(load_error(), HasSubstr("rope_parameters: factor is missing"));
  change_config("\"llama3\"", "\"yarn\"");
  EXPECT_THAT(load_error(), HasSubstr("rope_type is \"yarn\", this version knows only default"));
  change_config("\"yarn\"", "\"default\"");
  change_config("\"vocab_size\": 40", "\"vocab_size\": \"40\"");
  EXPECT_THAT(load_error(), HasSubstr("vocab_size is \"40\", needed an integer"));
  change_config("\"vocab_size\": \"40\"", "\"other\": 1");
  EXPECT_THAT(load_error(), HasSubstr("vocab_size is missing"));
}

TEST_F(ModelFolder, WritingChecksThatTheModelIsWhole) {
  std::vector<Parameter> some = parameters_;
  some.pop_back();
  const auto missing = write_model_folder(folder_ + "/x", model_, kMaxSequence, some);
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr(parameters_.back().name + " is missing"));
  EXPECT_FALSE(fs::exists(folder_ + "/x"));
}

}  // namespace
}  // namespace plait
