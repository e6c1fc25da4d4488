// A module of your own as a list of segments. What is a segment of its own can be recomputed by
// itself: here mlp keeps its input only, and runs again before its backward.
//
//   own_module_segments              ranks are threads
//   own_module_segments --comm gloo  ranks are processes, started here or by a launcher
//   own_module_segments --data 2     two replicas, in either way
//
// Launchers are torchrun, mpirun and Slurm.
#include <torch/torch.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "plait/torch/module_segment.h"
#include "plait/train/pipeline.h"
#include "plait/train/processes.h"

namespace {

constexpr int kRanks = 2, kMicrobatches = 8, kTokens = 16, kWidth = 32, kSteps = 30;

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

plait::OwnModel make_model() {
  plait::OwnModel model;
  // Made anew for each rank that holds the stage: the seed gives all replicas the same numbers.
  model.make_stage = [](const plait::StagePlace& place) {
    torch::manual_seed(1U + static_cast<std::uint64_t>(place.stage));
    const std::string layer = std::to_string(place.stage);
    return plait::StageSegments{plait::module_segment(layer + ".attn", Attention()),
                                plait::module_segment(layer + ".mlp", Mlp())};
  };
  model.loss = [](const torch::Tensor& output, const torch::Tensor& target) {
    return torch::mse_loss(output, target);
  };
  model.sample = torch::zeros({4, kTokens, kWidth});
  return model;
}

/// Every process draws the whole batch and reads what is its own.
plait::StepBatch make_batch(int step, int columns) {
  torch::manual_seed(1000U + static_cast<std::uint64_t>(step));
  plait::StepBatch batch;
  for (int i = 0; i < kMicrobatches * columns; ++i) {
    batch.inputs.push_back(torch::randn({4, kTokens, kWidth}));
    batch.targets.push_back(
        batch.inputs.back().mean(1, true).expand({4, kTokens, kWidth}).contiguous());
  }
  return batch;
}

plait::Expected<void> train(const plait::PipelineOptions& options) {
  PLAIT_TRY(const auto pipeline, plait::Pipeline::make(make_model(), options));
  const bool prints = !options.process || options.process->rank == 0;
  if (prints)
    std::printf("%s\n%s", pipeline->summary().c_str(), pipeline->describe_memory().c_str());
  for (int step = 1; step <= kSteps; ++step) {
    PLAIT_TRY(const plait::StepOutcome outcome, pipeline->step(make_batch(step, options.data)));
    if (prints && step % 10 == 0)
      std::printf("step %2d  loss %.17g  gradient %.17g\n", step, outcome.line.loss,
                  outcome.line.grad_norm);
  }
  return {};
}

}  // namespace

int main(int count, char** words) {
  const std::vector<std::string> arguments(words + 1, words + count);
  plait::PipelineOptions options{
      .ranks = kRanks, .microbatches = kMicrobatches, .schedule = "zbv", .recompute = {"mlp"}};
  options.optimizer.emplace();  // plait's AdamW, with a course of the learning rate
  options.steps = kSteps;
  bool gloo = false;
  for (std::size_t i = 0; i + 1 < arguments.size(); i += 2) {
    if (arguments[i] == "--comm") gloo = arguments[i + 1] == "gloo";
    if (arguments[i] == "--data") options.data = std::atoi(arguments[i + 1].c_str());
    if (arguments[i] == "--schedule") options.schedule = arguments[i + 1];
  }
  if (gloo) {
    const auto process = plait::join_processes(kRanks * options.data, arguments);
    if (!process) {
      std::fprintf(stderr, "%s\n", process.error().text().c_str());
      return 1;
    }
    if (process->exit_code) {
      if (!process->message.empty()) std::fprintf(stderr, "%s\n", process->message.c_str());
      return *process->exit_code;
    }
    options.process = process->options;
  }
  const plait::Expected<void> trained = train(options);
  if (trained) return 0;
  std::fprintf(stderr, "%s\n", trained.error().text().c_str());
  std::fflush(nullptr);
  std::_Exit(1);  // a wait of Gloo cannot be called back
}
