#include "plait/model/architectures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "plait/model/model_keys.h"
#include "plait/model/names.h"
#include "plait/model/part_memory.h"

namespace plait {
namespace {

using testing::ElementsAre;

/// Heads of 10 numbers, 4 of queries and 2 of keys: 40 and 20 a token, of a width of 24.
ModelConfig model_of(std::string_view architecture) {
  ModelConfig model;
  model.architecture = architecture;
  model.vocab_size = 50;
  model.hidden_size = 24;
  model.intermediate_size = 32;
  model.num_hidden_layers = 2;
  model.num_key_value_heads = 2;
  model.head_dim = 10;
  if (find_architecture(architecture)->mixture) {
    model.n_routed_experts = 6;
    model.n_shared_experts = 1;
    model.num_experts_per_tok = 2;
    model.moe_intermediate_size = 8;
    model.first_k_dense_replace = 1;
  }
  return model;
}

std::vector<std::string> names_of(const std::vector<SegmentSpec>& segments) {
  std::vector<std::string> names;
  for (const SegmentSpec& segment : segments) names.push_back(segment.name());
  return names;
}

TEST(Architectures, EveryOneDescribesAModelThatAddsUp) {
  for (const ArchitectureInfo& architecture : architectures()) {
    SCOPED_TRACE(architecture.name);
    const ModelConfig model = model_of(architecture.name);
    ASSERT_TRUE(check_model(model));
    std::int64_t parameters = 0, buffers = 0;
    std::map<std::string, int> names;
    for (const ModelTensor& tensor : tensors_of(model)) {
      (tensor.trained ? parameters : buffers) += tensor.numbers();
      EXPECT_EQ(++names[tensor.name], 1) << tensor.name;
    }
    const StagePart whole{0, 2, true, true};
    EXPECT_EQ(parameter_count(model, whole), parameters);
    constexpr std::int64_t kSequence = 7;
    EXPECT_EQ(constant_count(model, whole, kSequence), buffers + kSequence * 10);
    // q, k, v, o: (40 + 20 + 20 + 40) * 24; two norms; a SwiGLU of 3 * 24 * 32.
    constexpr std::int64_t kHidden = 24;
    std::int64_t dense = 120 * kHidden + 2 * kHidden + 3 * kHidden * 32;
    if (architecture.attention_biases) dense += 40 + 20 + 20;
    if (architecture.head_norms) dense += 20;
    EXPECT_EQ(parameter_count(model, {0, 1, false, false}), dense);
    // Two operations a number of a matrix, and scores of 40 numbers: 2 * 2 * 40 * 7 / 2.
    EXPECT_EQ(forward_flops_per_token(model, {0, 1, false, false}, kSequence),
              2 * (120 * kHidden + 3 * kHidden * 32) + 80 * kSequence);
  }
}

TEST(Architectures, AMixtureLayerHasItsExchanges) {
  const ModelConfig model = model_of("deepseek-v3");
  const auto segments = segments_of(model, {0, 2, true, true}, {1, 3});
  EXPECT_THAT(names_of(segments),
              ElementsAre("embedding", "layers.0.attn", "layers.0.mlp", "layers.1.attn",
                          "layers.1.counts", "layers.1.dispatch", "layers.1.mlp",
                          "layers.1.combine", "layers.1.join", "head"));
  // One shared expert, and of six over three members the third and the fourth.
  EXPECT_EQ(segments[6].tensors.size(), 3u + 2 * 3);
  EXPECT_EQ(segments[6].tensors[3].name, expert_name(1, 2, "gate_proj.weight"));
  const StageShape shape = stage_shape(segments, 3, {"mlp"});
  std::vector<std::string> kinds;
  for (const PartShape& part : shape) kinds.push_back(part.kind);
  EXPECT_THAT(kinds, ElementsAre("attn", "counts", "dispatch", "mlp", "combine", "tail"));
  EXPECT_TRUE(shape[0].recompute);  // with the dense layer's mlp
  EXPECT_FALSE(shape[1].has_backward);
  EXPECT_EQ(shape[2].lane, Lane::kCommunication);
  EXPECT_FALSE(shape[5].recompute);
  EXPECT_EQ(part_memory(model, {0, 2, true, true}, {1, 7, 3}, {}).size(), shape.size());
  EXPECT_EQ(stage_shape(segments, 1, {}).size(), 1u);
}

// One member leaves out exchanges; an exchange never runs again, whatever its word.
TEST(Architectures, SegmentsAreJoinedWithoutTheExchangesOfOneMember) {
  const std::vector<SegmentShape> segments = {
      {"attn"}, {"dispatch", Lane::kCommunication}, {"mlp"}, {"attn"}};
  const auto alone = join_segments(segments, 1, {"dispatch"});
  ASSERT_EQ(alone.size(), 1u);
  EXPECT_THAT(alone[0].segments, ElementsAre(0, 2, 3));
  EXPECT_EQ(alone[0].shape, (PartShape{Lane::kCompute, "tail"}));
  const auto spread = join_segments(segments, 2, {"dispatch", "attn"});
  ASSERT_EQ(spread.size(), 3u);
  EXPECT_EQ(spread[0].shape, (PartShape{Lane::kCompute, "attn", 0, true, true}));
  EXPECT_EQ(spread[1].shape, (PartShape{Lane::kCommunication, "dispatch", 0}));
  EXPECT_THAT(spread[2].segments, ElementsAre(2, 3));
  EXPECT_EQ(spread[2].shape, (PartShape{Lane::kCompute, "tail", -1, true, true}));
}

// A dense layer of width d, intermediate size i and T tokens, by hand (docs/model.md): what a
// segment's description says is what the plan of memory counts.
TEST(Architectures, ADescriptionIsWhatThePlanCounts) {
  const ModelConfig model = model_of("llama");
  constexpr std::int64_t kTokens = 14, kD = 24, kI = 32, kQ = 40, kKv = 20, kNumber = 4,
                         kSmall = 64;
  const PartMemory layer = part_memory(model, {0, 1, false, false}, {2, 7}, {}).at(0);
  EXPECT_EQ(layer.input, kNumber * kTokens * kD);
  const std::int64_t attention = kD + 2 * kQ + 2 * kKv + 4 + 1, mlp = kD + 1 + 3 * kI;
  EXPECT_EQ(layer.saved, kNumber * (kTokens * (2 * kD + attention + mlp) + 2 * kSmall));
  // The mlp's largest matrix is larger than what its backward makes at so few tokens.
  EXPECT_EQ(layer.backward_weight, kNumber * kQ * kD);
  const PartMemory again = part_memory(model, {0, 1, false, false}, {2, 7}, {"mlp"}).at(0);
  EXPECT_EQ(layer.saved - again.saved, kNumber * (kTokens * mlp + kSmall));
  EXPECT_EQ(again.recomputed, layer.recomputed);
}

TEST(Architectures, AStageOfOneEndHasOnePart) {
  const ModelConfig model = model_of("llama");
  for (const StagePart& part : {StagePart{0, 0, true, false}, StagePart{2, 2, false, true}}) {
    EXPECT_EQ(stage_shape(segments_of(model, part), 1, {"attn", "mlp"}).size(), 1u);
    const auto memory = part_memory(model, part, {1, 7}, {});
    ASSERT_EQ(memory.size(), 1u);
    EXPECT_GT(memory[0].backward_weight, 0);
  }
}

TEST(Architectures, ATiedTableCountsOnceAndAloneAtTheHead) {
  ModelConfig model = model_of("llama");
  model.tie_word_embeddings = true;
  EXPECT_EQ(parameter_count(model, {0, 0, true, false}), 50 * 24);
  EXPECT_EQ(parameter_count(model, {2, 2, false, true}), 50 * 24 + 24);
  EXPECT_EQ(parameter_count(model, {0, 0, true, true}), 50 * 24 + 24);
}

TEST(Architectures, RecomputationIsByWord) {
  EXPECT_THAT(recomputed_words("full"), ElementsAre("attn", "mlp"));
  EXPECT_THAT(recomputed_words("selective"), ElementsAre("mlp"));
  EXPECT_TRUE(recomputed_words("none").empty());
  EXPECT_THAT(recompute_names(), ElementsAre("none", "selective", "full"));
}

TEST(ModelKeys, AModelThatDoesNotFitNamesItsKey) {
  const auto error_of = [](auto&& change) {
    ModelConfig model = model_of("llama");
    change(model);
    const auto checked = check_model(model);
    EXPECT_FALSE(checked);
    return checked ? "" : checked.error().text();
  };
  EXPECT_EQ(error_of([](ModelConfig& model) { model.architecture = "gpt2"; }),
            "model.architecture: architecture is 'gpt2', needed " + architecture_names());
  EXPECT_EQ(error_of([](ModelConfig& model) { model.vocab_size = 0; }),
            "model.vocab_size: vocab_size is 0, needs to be at least 1");
  EXPECT_EQ(error_of([](ModelConfig& model) { model.num_key_value_heads = 3; }),
            "model.num_attention_heads: num_attention_heads is 4, must be a multiple of "
            "num_key_value_heads 3");
  EXPECT_EQ(error_of([](ModelConfig& model) { model.n_shared_experts = 1; }),
            "model.n_shared_experts: n_shared_experts is 1, but a llama has no experts, "
            "deepseek-v3 has");
}

}  // namespace
}  // namespace plait
