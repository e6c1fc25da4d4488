#include "plait/model/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace plait {
namespace {

using testing::HasSubstr;

ModelConfig model_of(int layers, std::int64_t vocab = 256) {
  ModelConfig model;
  model.num_hidden_layers = layers;
  model.vocab_size = vocab;
  return model;
}

constexpr std::int64_t kSequence = 64;

double worst(const ModelConfig& model, const std::vector<StagePart>& parts) {
  double most = 0;
  for (const StagePart& part : parts) {
    most = std::max(most, forward_flops_per_token(model, part, kSequence));
  }
  return most;
}

/// The smallest worst cost of all ways to cut, by trying them.
double best_of_all(const ModelConfig& model, int stages, std::vector<int> counts = {}) {
  int used = 0;
  for (const int count : counts) used += count;
  if (static_cast<int>(counts.size()) == stages - 1) {
    counts.push_back(model.num_hidden_layers - used);
    return worst(model, partition_layers(model, stages, kSequence, counts).value());
  }
  const int rest = stages - 1 - static_cast<int>(counts.size());
  double best = std::numeric_limits<double>::infinity();
  for (int count = 1; count <= model.num_hidden_layers - used - rest; ++count) {
    std::vector<int> next = counts;
    next.push_back(count);
    best = std::min(best, best_of_all(model, stages, next));
  }
  return best;
}

TEST(Partition, CoversTheLayersInOrderWithTheEndsOutside) {
  for (int layers = 1; layers <= 12; ++layers) {
    for (int stages = 1; stages <= layers; ++stages) {
      const auto parts = partition_layers(model_of(layers), stages, kSequence, {}).value();
      ASSERT_EQ(parts.size(), static_cast<std::size_t>(stages));
      int next = 0;
      for (const StagePart& part : parts) {
        EXPECT_EQ(part.first_layer, next);
        EXPECT_GE(part.layers(), 1);
        EXPECT_EQ(part.embedding, &part == &parts.front());
        EXPECT_EQ(part.head, &part == &parts.back());
        next = part.end_layer;
      }
      EXPECT_EQ(next, layers);
    }
  }
}

TEST(Partition, TheCostliestStageIsAsCheapAsCanBe) {
  for (const std::int64_t vocab : {16, 256, 4096, 32000}) {
    for (int layers = 2; layers <= 9; ++layers) {
      for (int stages = 2; stages <= std::min(layers, 5); ++stages) {
        const ModelConfig model = model_of(layers, vocab);
        const auto parts = partition_layers(model, stages, kSequence, {}).value();
        EXPECT_DOUBLE_EQ(worst(model, parts), best_of_all(model, stages))
            << layers << " layers, " << stages << " stages, vocabulary " << vocab;
      }
    }
  }
}

std::vector<int> counts_of(const std::vector<StagePart>& parts) {
  std::vector<int> counts;
  for (const StagePart& part : parts) counts.push_back(part.layers());
  return counts;
}

// d 96, intermediate 256: a layer is 2 * (4 * 96² + 3 * 96 * 256) + 2 * 96 * 64 = 233,472 per
// token. A head of 256 words is (2 * 96 + 8) * 256 = 51,200, less than a layer: the spread is even.
// One of 4096 words is 819,200, three and a half layers: the last stage gets as few as it may, and
// the first, which has the embedding's 192 beside, the smaller half of the rest.
TEST(Partition, TheHeadWeighsAsMuchAsItsWords) {
  EXPECT_DOUBLE_EQ(forward_flops_per_token(model_of(8), {0, 1, false, false}, kSequence), 233'472);
  EXPECT_DOUBLE_EQ(forward_flops_per_token(model_of(8), {0, 0, false, true}, kSequence), 51'200);
  EXPECT_THAT(counts_of(partition_layers(model_of(8), 4, kSequence, {}).value()),
              testing::ElementsAre(2, 2, 2, 2));
  EXPECT_THAT(counts_of(partition_layers(model_of(8), 8, kSequence, {}).value()), testing::Each(1));
  EXPECT_THAT(counts_of(partition_layers(model_of(8, 4096), 3, kSequence, {}).value()),
              testing::ElementsAre(3, 4, 1));
}

ModelConfig mixture_of(int layers, int dense) {
  ModelConfig model = model_of(layers);
  model.architecture = "deepseek-v3";
  model.n_routed_experts = 8;
  model.n_shared_experts = 1;
  model.num_experts_per_tok = 2;
  model.moe_intermediate_size = 512;
  model.first_k_dense_replace = dense;
  return model;
}

// d 96, k 2, expert 512: attention 2 * 4 * 96² + 2 * 96 * 64 = 86,016 per token, router
// 2 * 96 * 8 = 1,536, three experts of 2 * 3 * 96 * 512 = 294,912.
TEST(Partition, AMixtureCostsTheExpertsOfOneToken) {
  const ModelConfig model = mixture_of(6, 2);
  EXPECT_DOUBLE_EQ(forward_flops_per_token(model, {0, 1, false, false}, kSequence), 233'472);
  EXPECT_DOUBLE_EQ(forward_flops_per_token(model, {2, 3, false, false}, kSequence),
                   86'016 + 1'536 + 3 * 294'912);
  // The mixtures cost four dense layers each: the two dense ones go with one of them.
  EXPECT_THAT(counts_of(partition_layers(model, 4, kSequence, {}).value()),
              testing::ElementsAre(3, 1, 1, 1));
}

TEST(Partition, UnequalLayersAreSpreadAsWellAsCanBe) {
  for (const int dense : {0, 1, 4}) {
    for (int stages = 2; stages <= 5; ++stages) {
      const ModelConfig model = mixture_of(8, dense);
      EXPECT_DOUBLE_EQ(worst(model, partition_layers(model, stages, kSequence, {}).value()),
                       best_of_all(model, stages))
          << dense << " dense layers, " << stages << " stages";
    }
  }
}

TEST(Partition, AMemberHoldsItsShareOfTheExperts) {
  const ModelConfig model = mixture_of(3, 1);
  const std::int64_t attention = 4 * 96 * 96 + 2 * 96, dense = std::int64_t{3} * 96 * 256,
                     expert = std::int64_t{3} * 96 * 512, router = std::int64_t{8} * 96;
  EXPECT_EQ(parameter_count(model, {0, 3, false, false}),
            3 * attention + dense + 2 * (router + 9 * expert));
  EXPECT_EQ(parameter_count(model, {0, 3, false, false}, 4),
            3 * attention + dense + 2 * (router + 3 * expert));
}

TEST(Partition, TakesAList) {
  EXPECT_THAT(counts_of(partition_layers(model_of(6), 3, kSequence, {1, 4, 1}).value()),
              testing::ElementsAre(1, 4, 1));
}

TEST(Partition, EmbeddingAndHeadMayHaveStagesOfTheirOwn) {
  const auto parts = partition_layers(model_of(6), 4, kSequence, {0, 3, 3, 0}).value();
  const std::vector<StagePart> needed = {
      {0, 0, true, false}, {0, 3, false, false}, {3, 6, false, false}, {6, 6, false, true}};
  EXPECT_EQ(parts, needed);
  // More stages than layers, which no spread by cost gives.
  EXPECT_EQ(partition_layers(model_of(1), 3, kSequence, {0, 1, 0}).value()[1].layers(), 1);
}

TEST(Partition, WrongListsSayWhatIsNeeded) {
  const auto message = [](int layers, int stages, const std::vector<int>& list) {
    const auto result = partition_layers(model_of(layers), stages, kSequence, list);
    EXPECT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidInput);
    return result ? "" : result.error().message;
  };
  EXPECT_THAT(message(3, 8, {}), HasSubstr("num_hidden_layers is 3"));
  EXPECT_THAT(message(3, 8, {}), HasSubstr("stages, 8"));
  EXPECT_THAT(message(6, 3, {3, 3}), HasSubstr("2 entries, must have one for each of 3 stages"));
  EXPECT_THAT(message(6, 3, {3, 0, 3}), HasSubstr("[3, 0, 3], stage 1 would hold nothing"));
  EXPECT_THAT(message(6, 3, {7, -1, 0}), HasSubstr("at least 0 layers"));
  EXPECT_THAT(message(6, 3, {-1, 3, 4}), HasSubstr("at least 0 layers"));
  EXPECT_THAT(message(6, 3, {2, 2, 1}), HasSubstr("sums to 5, must sum to num_hidden_layers 6"));
}

TEST(Partition, TiedEmbeddingsNeedOneRank) {
  ModelConfig model = model_of(4);
  EXPECT_TRUE(check_tied_embeddings(model, 0, 3));
  model.tie_word_embeddings = true;
  EXPECT_TRUE(check_tied_embeddings(model, 0, 0));
  const auto result = check_tied_embeddings(model, 0, 3);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("rank 0"));
  EXPECT_THAT(result.error().message, HasSubstr("rank 3"));
}

TEST(Partition, PartsAddUpToTheModel) {
  for (const bool tied : {false, true}) {
    ModelConfig model = model_of(5);
    model.num_key_value_heads = 2;
    model.tie_word_embeddings = tied;
    // d 96, 2 of 4 heads: q, o 96², k, v 48 * 96, three matrices 96 * 256, two norms.
    const std::int64_t layer = 2 * 96 * 96 + 2 * 48 * 96 + 3 * 96 * 256 + 2 * 96;
    const std::int64_t table = std::int64_t{256} * 96;
    const std::int64_t whole = 5 * layer + table * (tied ? 1 : 2) + 96;
    EXPECT_EQ(parameter_count(model, {0, 5, true, true}), whole);
    EXPECT_EQ(
        parameter_count(model, {0, 2, true, false}) + parameter_count(model, {2, 5, false, true}),
        5 * layer + 2 * table + 96);
  }
}

}  // namespace
}  // namespace plait
