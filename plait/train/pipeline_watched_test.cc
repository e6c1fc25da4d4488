// What a job's run has, for a caller's own modules too: the watchdog, an emulated link, recording.
#include <gmock/gmock.h>
#include <torch/torch.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "plait/record/metrics_file.h"
#include "plait/record/recorder.h"
#include "plait/sim/cost_file.h"
#include "plait/torch/module_segment.h"
#include "plait/torch/rendezvous.h"
#include "plait/train/pipeline.h"
#include "tests/support/files.h"

namespace plait {
namespace {

using ::testing::HasSubstr;

constexpr int kWidth = 6, kMicrobatches = 4, kStages = 4;

/// Holds up the forwards of one stage, when it is told to.
class Stuck {
 public:
  /// From the next forward on, each for `seconds`.
  void stop(double seconds) { seconds_ = seconds; }
  void pass() const {
    if (seconds_ > 0) std::this_thread::sleep_for(std::chrono::duration<double>(seconds_));
  }

 private:
  std::atomic<double> seconds_ = 0;
};

struct LayerImpl : torch::nn::Module {
  LayerImpl(int stage, const Stuck& held_up) : stuck(stage == 1 ? &held_up : nullptr) {
    linear = register_module("linear", torch::nn::Linear(kWidth, kWidth));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    if (stuck != nullptr) stuck->pass();
    return torch::tanh(linear(x));
  }
  const Stuck* stuck;
  torch::nn::Linear linear = nullptr;
};
TORCH_MODULE(Layer);

torch::Tensor numbers_of(unsigned seed) {
  return torch::sin(torch::arange(2 * kWidth, torch::kFloat) + static_cast<double>(seed))
      .reshape({2, kWidth});
}

OwnModel model_of_layers(const Stuck& stuck) {
  static std::mutex making;  // the seed is the process's
  OwnModel model;
  model.sample = torch::zeros({2, kWidth});
  model.loss = [](const at::Tensor& output, const at::Tensor& target) {
    return torch::mse_loss(output, target);
  };
  model.make_stage = [&stuck](const StagePlace& place) {
    const std::lock_guard lock(making);
    torch::manual_seed(3U + static_cast<std::uint64_t>(place.stage));
    return StageSegments{
        module_segment(std::to_string(place.stage) + ".layer", Layer(place.stage, stuck))};
  };
  return model;
}

StepBatch make_batch() {
  StepBatch batch;
  for (unsigned i = 0; i < kMicrobatches; ++i) {
    batch.inputs.push_back(numbers_of(40 + i));
    batch.targets.push_back(numbers_of(80 + i));
  }
  return batch;
}

PipelineOptions options_of(double timeout_s) {
  PipelineOptions options;
  options.microbatches = kMicrobatches;
  options.timeout_s = timeout_s;
  return options;
}

/// Stage 1 is on rank 1.
constexpr const char* kCause = "the cause is rank 1, which is in 1F";
constexpr const char* kWaits = "\n  rank 0 waits in ";

TEST(OwnModules, AStuckStageEndsThreadsWithWhoWaitsForWhat) {
  Stuck stuck;
  const auto pipeline = Pipeline::make(model_of_layers(stuck), options_of(0.2));
  ASSERT_TRUE(pipeline) << pipeline.error().text();
  ASSERT_TRUE((*pipeline)->step(make_batch()));
  stuck.stop(2);
  const Expected<StepOutcome> step = (*pipeline)->step(make_batch());
  ASSERT_FALSE(step);
  EXPECT_EQ(step.error().code, ErrorCode::kTimeout);
  EXPECT_THAT(step.error().text(), HasSubstr("nothing has completed for 0.2 s: "));
  EXPECT_THAT(step.error().text(), HasSubstr(kCause));
  EXPECT_THAT(step.error().text(), HasSubstr(kWaits));
}

TEST(OwnModules, AStuckPeerEndsProcessesToo) {
  const Expected<StoreServer> server = StoreServer::start(0);
  ASSERT_TRUE(server);
  Stuck stuck;
  std::vector<std::unique_ptr<Pipeline>> pipelines(2);
  std::vector<std::string> errors(2);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      PipelineOptions options = options_of(0.5);
      options.process.emplace();
      options.process->rank = rank;
      options.process->address = "127.0.0.1";
      options.process->port = server->port();
      auto made = Pipeline::make(model_of_layers(stuck), options);
      ASSERT_TRUE(made) << made.error().text();
      const auto i = static_cast<std::size_t>(rank);
      pipelines[i] = std::move(*made);
      ASSERT_TRUE(pipelines[i]->step(make_batch()));
      stuck.stop(2);
      const Expected<StepOutcome> step = pipelines[i]->step(make_batch());
      if (!step) errors[i] = step.error().text();
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_THAT(errors[0], HasSubstr("nothing has completed for 0.5 s: "));
  EXPECT_THAT(errors[0], HasSubstr(kWaits));
  EXPECT_NE(errors[1], "");
}

TEST(OwnModules, AnEmulatedLinkDelaysMessagesAndChangesNoBit) {
  constexpr Nanoseconds kLatency = 2'000'000;
  double losses[2];
  for (const bool linked : {false, true}) {
    Stuck stuck;
    PipelineOptions options = options_of(60);
    if (linked) options.link.latency = kLatency;
    const auto pipeline = Pipeline::make(model_of_layers(stuck), options);
    ASSERT_TRUE(pipeline) << pipeline.error().text();
    const Expected<StepOutcome> step = (*pipeline)->step(make_batch());
    ASSERT_TRUE(step) << step.error().text();
    losses[linked] = step->line.loss;
    int sends = 0;
    for (const TimelineEvent& event : step->timeline.events) {
      if (event.action.type != ActionType::kSendF && event.action.type != ActionType::kSendB)
        continue;
      ++sends;
      if (linked) {
        EXPECT_GE(event.end - event.begin, kLatency);
      }
    }
    EXPECT_GT(sends, 0);
  }
  EXPECT_EQ(losses[0], losses[1]);
  PipelineOptions options = options_of(60);
  options.link.latency = kLatency;
  options.reference = true;
  Stuck stuck;
  const auto refused = Pipeline::make(model_of_layers(stuck), options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "a link is emulated between ranks that are threads");
}

TEST(OwnModules, AStepIsRecordedAsAJobsIs) {
  const std::string folder =
      (std::filesystem::temp_directory_path() / ("plait_own_" + std::to_string(getpid()))).string();
  Stuck stuck;
  PipelineOptions options = options_of(60);
  options.schedule = "zbv";  // F, I and W by themselves
  const auto pipeline = Pipeline::make(model_of_layers(stuck), options);
  ASSERT_TRUE(pipeline) << pipeline.error().text();
  Expected<CostProfile> profile = (*pipeline)->cost_profile();
  ASSERT_TRUE(profile) << profile.error().text();
  Timeline third;
  {
    Expected<Recorder> recorder =
        Recorder::begin({folder, ExistingFolder::kOverwrite, 4, 3}, "own modules\n");
    ASSERT_TRUE(recorder) << recorder.error().text();
    for (int step = 1; step <= 4; ++step) {
      const Expected<StepOutcome> outcome = (*pipeline)->step(make_batch());
      ASSERT_TRUE(outcome) << outcome.error().text();
      recorder->step(*outcome);
      profile->add(outcome->timeline);
      if (step == 3) third = outcome->timeline;
    }
    recorder->write_result("costs.toml", print_costs(*profile->settings()));
    ASSERT_TRUE(recorder->end());
  }
  MetricsReader reader("metrics.jsonl");
  const auto lines = reader.read(testing::read_text(folder + "/metrics.jsonl"));
  ASSERT_TRUE(lines) << lines.error().text();
  ASSERT_EQ(lines->size(), 4U);
  const auto& line = std::get<StepLine>(lines->at(2));
  EXPECT_EQ(line.step, 3);
  EXPECT_EQ(line.bubble_share.size(), 2U);
  EXPECT_EQ(testing::read_text(folder + "/timeline.json"), print_chrome_trace(third));
  const Expected<CostSettings> costs = read_cost_file(folder);
  ASSERT_TRUE(costs) << costs.error().text();
  const Expected<CostModel> model = make_cost_model(*costs, kStages);
  ASSERT_TRUE(model) << model.error().text();
  for (const Nanoseconds forward : model->actions.forward) EXPECT_GT(forward, 0);
  std::filesystem::remove_all(folder);
}

TEST(OwnModules, SeveralColumnsHaveNoCostFile) {
  Stuck stuck;
  PipelineOptions options = options_of(60);
  options.data = 2;
  const auto pipeline = Pipeline::make(model_of_layers(stuck), options);
  ASSERT_TRUE(pipeline) << pipeline.error().text();
  EXPECT_EQ((*pipeline)->cost_profile().error().message,
            "a cost file has no place for segments that exchange rows, nor for reductions");
}

}  // namespace
}  // namespace plait
