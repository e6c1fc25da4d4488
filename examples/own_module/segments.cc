// A module of your own as a list of segments. What is a segment of its own can be recomputed by
// itself: here mlp keeps its input only, and runs again before its backward.
#include <torch/torch.h>

#include <cstdio>

#include "plait/torch/module_segment.h"
#include "plait/train/pipeline.h"

namespace {

constexpr int kStages = 4, kMicrobatches = 8, kTokens = 16, kWidth = 32;

struct AttentionImpl : torch::nn::Module {
  AttentionImpl() {
    in = register_module("in", torch::nn::Linear(kWidth, 3 * kWidth));
    out = register_module("out", torch::nn::Linear(kWidth, kWidth));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    const auto parts = in(x).chunk(3, -1);
    return x + out(torch::scaled_dot_product_attention(parts[0], parts[1], parts[2]));
  }

  torch::nn::Linear in = nullptr, out = nullptr;
};
TORCH_MODULE(Attention);

struct MlpImpl : torch::nn::Module {
  MlpImpl() {
    up = register_module("up", torch::nn::Linear(kWidth, 4 * kWidth));
    down = register_module("down", torch::nn::Linear(4 * kWidth, kWidth));
  }
  torch::Tensor forward(const torch::Tensor& x) { return x + down(torch::gelu(up(x))); }

  torch::nn::Linear up = nullptr, down = nullptr;
};
TORCH_MODULE(Mlp);

}  // namespace

int main() {
  torch::manual_seed(1);
  std::vector<plait::StageSegments> stages;
  for (int stage = 0; stage < kStages; ++stage) {
    const std::string layer = std::to_string(stage);
    stages.push_back({plait::module_segment(layer + ".attn", Attention()),
                      plait::module_segment(layer + ".mlp", Mlp())});
  }
  const auto loss = [](const torch::Tensor& output, const torch::Tensor& target) {
    return torch::mse_loss(output, target);
  };
  const auto pipeline = plait::Pipeline::make(
      std::move(stages), loss,
      {.ranks = 2, .microbatches = kMicrobatches, .schedule = "zbv", .recompute = {"mlp"}});
  if (!pipeline) {
    std::fprintf(stderr, "%s\n", pipeline.error().text().c_str());
    return 1;
  }
  std::printf("%s\n", (*pipeline)->summary().c_str());
  torch::optim::AdamW optimizer((*pipeline)->parameters(), torch::optim::AdamWOptions(3e-3));
  for (int step = 1; step <= 30; ++step) {
    std::vector<torch::Tensor> inputs, targets;
    for (int i = 0; i < kMicrobatches; ++i) {
      inputs.push_back(torch::randn({4, kTokens, kWidth}));
      targets.push_back(inputs.back().mean(1, true).expand({4, kTokens, kWidth}).contiguous());
    }
    const auto mean_loss = (*pipeline)->step(inputs, targets);
    if (!mean_loss) {
      std::fprintf(stderr, "%s\n", mean_loss.error().text().c_str());
      return 1;
    }
    optimizer.step();
    if (step % 10 == 0) std::printf("step %2d  loss %.4f\n", step, *mean_loss);
  }
}
