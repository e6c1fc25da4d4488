// A module of your own, whole, as each stage of a pipeline.
#include <torch/torch.h>

#include <cstdio>
#include <utility>

#include "plait/torch/module_segment.h"
#include "plait/train/pipeline.h"

namespace {

constexpr int kStages = 4, kMicrobatches = 8, kWidth = 32;

struct BlockImpl : torch::nn::Module {
  BlockImpl() {
    up = register_module("up", torch::nn::Linear(kWidth, 4 * kWidth));
    down = register_module("down", torch::nn::Linear(4 * kWidth, kWidth));
  }
  torch::Tensor forward(const torch::Tensor& x) { return x + down(torch::gelu(up(x))); }

  torch::nn::Linear up = nullptr, down = nullptr;
};
TORCH_MODULE(Block);

}  // namespace

int main() {
  torch::manual_seed(1);
  std::vector<plait::StageSegments> stages;
  for (int stage = 0; stage < kStages; ++stage)
    stages.push_back({plait::module_segment("block" + std::to_string(stage), Block())});
  const auto loss = [](const torch::Tensor& output, const torch::Tensor& target) {
    return torch::mse_loss(output, target);
  };
  const auto pipeline =
      plait::Pipeline::make(std::move(stages), loss,
                            {.ranks = 2, .microbatches = kMicrobatches, .schedule = "dualpipe-v"});
  if (!pipeline) {
    std::fprintf(stderr, "%s\n", pipeline.error().text().c_str());
    return 1;
  }
  std::printf("%s\n", (*pipeline)->summary().c_str());
  torch::optim::AdamW optimizer((*pipeline)->parameters(), torch::optim::AdamWOptions(3e-3));
  const torch::Tensor matrix = torch::randn({kWidth, kWidth}) / 8;
  for (int step = 1; step <= 30; ++step) {
    std::vector<torch::Tensor> inputs, targets;
    for (int i = 0; i < kMicrobatches; ++i) {
      inputs.push_back(torch::randn({16, kWidth}));
      targets.push_back(torch::tanh(inputs.back().matmul(matrix)));
    }
    const auto outcome = (*pipeline)->step({std::move(inputs), std::move(targets)});
    if (!outcome) {
      std::fprintf(stderr, "%s\n", outcome.error().text().c_str());
      return 1;
    }
    optimizer.step();
    if (step % 10 == 0) std::printf("step %2d  loss %.4f\n", step, outcome->line.loss);
  }
}
