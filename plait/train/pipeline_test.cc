#include "plait/train/pipeline.h"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <string>
#include <vector>

#include "plait/torch/module_segment.h"

namespace plait {
namespace {

using ::testing::HasSubstr;

constexpr int kWidth = 6, kMicrobatches = 4;

struct BlockImpl : torch::nn::Module {
  BlockImpl() { linear = register_module("linear", torch::nn::Linear(kWidth, kWidth)); }
  torch::Tensor forward(const torch::Tensor& x) { return x + torch::tanh(linear(x)); }
  torch::nn::Linear linear = nullptr;
};
TORCH_MODULE(Block);

std::vector<Block> make_blocks(int count) {
  torch::manual_seed(3);
  std::vector<Block> blocks;
  for (int i = 0; i < count; ++i) blocks.emplace_back();
  return blocks;
}

torch::Tensor loss_of(const torch::Tensor& output, const torch::Tensor& target) {
  return torch::mse_loss(output, target);
}

struct Batch {
  Batch() {
    torch::manual_seed(4);
    for (int i = 0; i < kMicrobatches; ++i) {
      inputs.push_back(torch::randn({3, kWidth}));
      targets.push_back(torch::randn({3, kWidth}));
    }
  }
  std::vector<torch::Tensor> inputs, targets;
};

/// Two blocks a stage, each a segment.
std::vector<StageSegments> stages_of(const std::vector<Block>& blocks) {
  std::vector<StageSegments> stages(blocks.size() / 2);
  for (std::size_t i = 0; i < blocks.size(); ++i)
    stages[i / 2].push_back(module_segment(std::to_string(i) + ".block", blocks[i]));
  return stages;
}

TEST(Pipeline, GivesTheGradientsOfALoopOverMicrobatches) {
  const Batch batch;
  const std::vector<Block> alone = make_blocks(8);
  double loss = 0;
  for (int i = 0; i < kMicrobatches; ++i) {
    torch::Tensor x = batch.inputs[static_cast<std::size_t>(i)];
    for (Block block : alone) x = block->forward(x);
    const torch::Tensor one = loss_of(x, batch.targets[static_cast<std::size_t>(i)]);
    one.backward();
    loss += one.item<float>();
  }
  for (const std::set<std::string>& recompute : {std::set<std::string>{}, {"block"}}) {
    for (const char* schedule : {"dualpipe-v", "zbv", "interleaved-1f1b"}) {
      const std::vector<Block> blocks = make_blocks(8);
      auto pipeline =
          Pipeline::make(stages_of(blocks), loss_of, {2, kMicrobatches, schedule, recompute});
      ASSERT_TRUE(pipeline) << pipeline.error().text();
      for (int step = 0; step < 2; ++step) {
        const Expected<double> mean = (*pipeline)->step(batch.inputs, batch.targets);
        ASSERT_TRUE(mean) << mean.error().text();
        EXPECT_EQ(*mean, loss / kMicrobatches) << schedule;
      }
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        for (std::size_t p = 0; p < 2; ++p) {
          EXPECT_TRUE(blocks[i]->parameters()[p].grad().equal(alone[i]->parameters()[p].grad() /
                                                              kMicrobatches))
              << schedule << " block " << i;
        }
      }
      EXPECT_FALSE((*pipeline)->timeline().events.empty());
    }
  }
}

TEST(Pipeline, SaysWhatDoesNotFit) {
  const std::vector<Block> blocks = make_blocks(8);
  const auto error = [&](std::vector<StageSegments> stages, const PipelineOptions& options) {
    auto pipeline = Pipeline::make(std::move(stages), loss_of, options);
    return pipeline ? std::string() : pipeline.error().message;
  };
  EXPECT_EQ(error(stages_of(make_blocks(6)), {2, 4}),
            "dualpipe-v on 2 ranks has 4 stages, found segments for 3");
  EXPECT_THAT(error(stages_of(blocks), {2, 4, "dualpipe"}), HasSubstr("keeps several copies"));
  EXPECT_THAT(error(stages_of(blocks), {2, 4, "no-such"}), HasSubstr("no-such"));
  std::vector<StageSegments> empty = stages_of(blocks);
  empty[2].clear();
  EXPECT_EQ(error(std::move(empty), {2, 4}), "stage 2 has no segment");
  std::vector<StageSegments> shared = stages_of(blocks);
  shared[3] = shared[0];
  EXPECT_EQ(error(std::move(shared), {2, 4}),
            "stage 3 holds 0.block.linear.weight, which an earlier stage holds too; needed "
            "parameters of its own");
}

TEST(Pipeline, AStepThatFailsNamesTheSegmentAndEndsIt) {
  const std::vector<Block> blocks = make_blocks(8);
  auto pipeline = Pipeline::make(stages_of(blocks), loss_of, {2, kMicrobatches, "1f1b"});
  EXPECT_FALSE(pipeline);  // it has two stages
  pipeline = Pipeline::make(stages_of(blocks), loss_of, {2, kMicrobatches, "zbv"});
  ASSERT_TRUE(pipeline);
  Batch batch;
  EXPECT_EQ((*pipeline)->step({}, batch.targets).error().message,
            "found 0 inputs and 4 targets, needed one for each of 4 micro-batches");
  batch.inputs[1] = torch::randn({3, kWidth + 1});
  const Expected<double> failed = (*pipeline)->step(batch.inputs, batch.targets);
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().text(), HasSubstr("0.block"));
  EXPECT_EQ((*pipeline)->step(Batch().inputs, batch.targets).error().text(), failed.error().text());
}

}  // namespace
}  // namespace plait
