#include "plait/train/pipeline.h"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <algorithm>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "plait/torch/module_segment.h"
#include "plait/torch/rendezvous.h"

namespace plait {
namespace {

using ::testing::HasSubstr;

constexpr int kWidth = 6, kMicrobatches = 4, kRows = 4;

struct BlockImpl : torch::nn::Module {
  BlockImpl() { linear = register_module("linear", torch::nn::Linear(kWidth, kWidth)); }
  torch::Tensor forward(const torch::Tensor& x) { return x + torch::tanh(linear(x)); }
  torch::nn::Linear linear = nullptr;
};
TORCH_MODULE(Block);

/// The block of that place in the model, the same wherever it is made.
Block make_block(int number) {
  torch::manual_seed(3U + static_cast<std::uint64_t>(number));
  return {};
}

torch::Tensor loss_of(const torch::Tensor& output, const torch::Tensor& target) {
  return torch::mse_loss(output, target);
}

StepBatch make_batch(int columns, int step = 0) {
  torch::manual_seed(400U + static_cast<std::uint64_t>(step));
  StepBatch batch;
  for (int i = 0; i < kMicrobatches * columns; ++i) {
    batch.inputs.push_back(torch::randn({kRows, kWidth}));
    batch.targets.push_back(torch::randn({kRows, kWidth}));
  }
  return batch;
}

std::string block_name(int number) { return std::to_string(number) + ".block"; }

/// Two blocks a stage, each a segment.
OwnModel model_of_blocks() {
  OwnModel model;
  model.loss = loss_of;
  model.sample = torch::zeros({kRows, kWidth});
  model.make_stage = [](const StagePlace& place) {
    StageSegments segments;
    for (int number = 2 * place.stage; number < 2 * place.stage + 2; ++number)
      segments.push_back(module_segment(block_name(number), make_block(number)));
    return segments;
  };
  return model;
}

/// Loss and gradients by name.
struct Result {
  double loss = 0;
  std::map<std::string, torch::Tensor> gradients;
};

/// Without any of our code: micro-batches ascending in each column, columns added up in ascending
/// order, divided once.
Result loop_of(int blocks, int columns, const StepBatch& batch) {
  Result result;
  for (int column = 0; column < columns; ++column) {
    std::vector<Block> model;
    for (int i = 0; i < blocks; ++i) model.push_back(make_block(i));
    for (int mb = 0; mb < kMicrobatches; ++mb) {
      const int number = mb * columns + column;
      const auto entry = static_cast<std::size_t>(number);
      torch::Tensor x = batch.inputs[entry];
      for (Block& block : model) x = block->forward(x);
      const torch::Tensor loss = loss_of(x, batch.targets[entry]);
      loss.backward();
      result.loss += loss.item<float>();
    }
    for (int i = 0; i < blocks; ++i) {
      for (const auto& parameter : model[static_cast<std::size_t>(i)]->named_parameters()) {
        torch::Tensor& sum = result.gradients[block_name(i) + "." + parameter.key()];
        sum = sum.defined() ? sum + parameter.value().grad() : parameter.value().grad().clone();
      }
    }
  }
  for (auto& [name, gradient] : result.gradients) gradient = gradient / (kMicrobatches * columns);
  result.loss /= kMicrobatches * columns;
  return result;
}

/// The gradients of every column that is here must be those of the loop.
void expect_gradients(const Pipeline& pipeline, const Result& expected, std::size_t holders) {
  std::map<std::string, std::size_t> seen;
  for (const Parameter& parameter : pipeline.named_parameters()) {
    ++seen[parameter.name];
    EXPECT_TRUE(parameter.tensor.grad().equal(expected.gradients.at(parameter.name)))
        << parameter.name;
  }
  for (const auto& [name, count] : seen) EXPECT_EQ(count, holders) << name;
}

TEST(Pipeline, ThreadsGiveTheBitsOfALoop) {
  for (const int columns : {1, 2}) {
    const StepBatch batch = make_batch(columns);
    const Result expected = loop_of(8, columns, batch);
    for (const std::set<std::string>& recompute : {std::set<std::string>{}, {"block"}}) {
      for (const char* schedule : {"dualpipe-v", "zbv", "interleaved-1f1b"}) {
        SCOPED_TRACE(schedule);
        const auto pipeline = Pipeline::make(model_of_blocks(), {.microbatches = kMicrobatches,
                                                                 .schedule = schedule,
                                                                 .data = columns,
                                                                 .recompute = recompute});
        ASSERT_TRUE(pipeline) << pipeline.error().text();
        for (int step = 0; step < 2; ++step) {
          const Expected<StepOutcome> outcome = (*pipeline)->step(batch);
          ASSERT_TRUE(outcome) << outcome.error().text();
          EXPECT_EQ(outcome->line.loss, expected.loss);
          EXPECT_FALSE(outcome->timeline.events.empty());
        }
        expect_gradients(**pipeline, expected, static_cast<std::size_t>(columns));
        EXPECT_EQ(*(*pipeline)->evaluate(batch), expected.loss);
      }
    }
  }
}

TEST(Pipeline, AWordThatNoSegmentHasIsNotRecomputedInSilence) {
  const auto pipeline =
      Pipeline::make(model_of_blocks(), {.microbatches = kMicrobatches, .recompute = {"blocks"}});
  ASSERT_FALSE(pipeline);
  EXPECT_THAT(pipeline.error().message,
              testing::StartsWith("recompute has 'blocks', which is the last word of no segment "
                                  "that computes, found block"));
}

// The loop adds up all micro-batches of a column in ascending order, whatever round they are of.
TEST(Pipeline, RoundsGiveTheBitsOfALoop) {
  for (const int columns : {1, 2}) {
    const StepBatch batch = make_batch(columns);
    const Result expected = loop_of(8, columns, batch);
    const auto pipeline = Pipeline::make(model_of_blocks(), {.microbatches = kMicrobatches / 2,
                                                             .schedule = "interleaved-1f1b",
                                                             .data = columns,
                                                             .accumulate = 2});
    ASSERT_TRUE(pipeline) << pipeline.error().text();
    for (int step = 0; step < 2; ++step) {
      const Expected<StepOutcome> outcome = (*pipeline)->step(batch);
      ASSERT_TRUE(outcome) << outcome.error().text();
      EXPECT_EQ(outcome->line.loss, expected.loss);
    }
    expect_gradients(**pipeline, expected, static_cast<std::size_t>(columns));
    const std::ptrdiff_t entries = std::ssize(batch.inputs) / 2;
    StepBatch half{{batch.inputs.begin(), batch.inputs.begin() + entries},
                   {batch.targets.begin(), batch.targets.begin() + entries}};
    EXPECT_TRUE((*pipeline)->evaluate(half));
    EXPECT_FALSE((*pipeline)->step(half)) << "half of the micro-batches";
  }
}

/// Losses of three steps and an evaluation, and the numbers of the parameters.
struct Trained {
  std::vector<double> losses;
  std::map<std::string, std::vector<std::byte>> parameters;
  friend bool operator==(const Trained&, const Trained&) = default;
};

Trained train_shared(const char* schedule, std::string shard) {
  PipelineOptions options{.microbatches = kMicrobatches, .schedule = schedule, .data = 3};
  options.shard = std::move(shard);
  options.optimizer.emplace();
  options.steps = 3;
  const auto pipeline = Pipeline::make(model_of_blocks(), options);
  EXPECT_TRUE(pipeline) << pipeline.error().text();
  Trained trained;
  for (int step = 0; step < 3; ++step)
    trained.losses.push_back((*pipeline)->step(make_batch(3, step))->line.loss);
  trained.losses.push_back(*(*pipeline)->evaluate(make_batch(3)));
  for (const TrainState& rank : (*pipeline)->state()) {
    for (const StateSlice& slice : rank) {
      if (slice.what != "parameter" || !slice.speaks) continue;
      const std::size_t width = slice.bytes.size() / static_cast<std::size_t>(slice.count);
      std::vector<std::byte>& whole = trained.parameters[slice.name];
      const std::size_t first = static_cast<std::size_t>(slice.first) * width;
      whole.resize(std::max(whole.size(), first + slice.bytes.size()));
      std::copy(slice.bytes.begin(), slice.bytes.end(),
                whole.begin() + static_cast<std::ptrdiff_t>(first));
    }
  }
  return trained;
}

TEST(Pipeline, ReplicasThatShareOutTrainAsWholeOnes) {
  for (const char* schedule : {"dualpipe-v", "interleaved-1f1b"}) {
    const Trained expected = train_shared(schedule, "none");
    EXPECT_NE(expected.losses[0], expected.losses[2]);
    for (const char* mode : {"optimizer", "gradients", "parameters"})
      EXPECT_EQ(train_shared(schedule, mode), expected) << schedule << " " << mode;
  }
}

TEST(Pipeline, WhatReplicasCannotShareOutIsRefused) {
  PipelineOptions options{.microbatches = kMicrobatches, .data = 2};
  const auto error_of = [&](OwnModel model) {
    const auto pipeline = Pipeline::make(std::move(model), options);
    return pipeline ? std::string("none") : pipeline.error().text();
  };
  options.shard = "zero";
  EXPECT_THAT(error_of(model_of_blocks()),
              HasSubstr("shard is 'zero', needed none, optimizer, gradients, parameters"));
  options.shard = "gradients";
  EXPECT_THAT(error_of(model_of_blocks()), HasSubstr("needed PipelineOptions::optimizer"));
  options.optimizer.emplace();
  options.steps = 1;
  OwnModel wide = model_of_blocks();
  wide.sample = wide.sample.to(torch::kDouble);
  wide.make_stage = [](const StagePlace& place) {
    StageSegments segments;
    for (int number = 2 * place.stage; number < 2 * place.stage + 2; ++number) {
      Block block = make_block(number);
      block->to(torch::kDouble);
      segments.push_back(module_segment(block_name(number), block));
    }
    return segments;
  };
  EXPECT_THAT(error_of(std::move(wide)),
              HasSubstr("the parameter's dtype is F64, replicas share out float32 only"));
}

/// Each rank over Gloo has a pipeline of its own, as if it were a process.
void run_over_gloo(const char* schedule, int blocks, int columns) {
  const StepBatch batch = make_batch(columns);
  const Result expected = loop_of(blocks, columns, batch);
  const Expected<StoreServer> server = StoreServer::start(0);
  ASSERT_TRUE(server);
  std::vector<std::thread> ranks;
  std::vector<std::unique_ptr<Pipeline>> pipelines(static_cast<std::size_t>(2 * columns));
  std::vector<Expected<StepOutcome>> outcomes(pipelines.size());
  std::mutex making;  // the seed is the process's
  for (int rank = 0; rank < 2 * columns; ++rank) {
    ranks.emplace_back([&, rank] {
      PipelineOptions options;
      options.microbatches = kMicrobatches;
      options.schedule = schedule;
      options.data = columns;
      options.process.emplace();
      options.process->rank = rank;
      options.process->address = "127.0.0.1";
      options.process->port = server->port();
      OwnModel model = model_of_blocks();
      model.make_stage = [&making, make = std::move(model.make_stage)](const StagePlace& place) {
        const std::lock_guard lock(making);
        return make(place);
      };
      auto pipeline = Pipeline::make(std::move(model), options);
      ASSERT_TRUE(pipeline) << pipeline.error().text();
      const auto i = static_cast<std::size_t>(rank);
      pipelines[i] = std::move(*pipeline);
      outcomes[i] = pipelines[i]->step(batch);
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (std::size_t rank = 0; rank < pipelines.size(); ++rank) {
    ASSERT_TRUE(outcomes[rank]) << outcomes[rank].error().text();
    EXPECT_EQ(outcomes[rank]->line.loss, expected.loss);
    expect_gradients(*pipelines[rank], expected, 1);
  }
}

TEST(Pipeline, GlooGivesTheBitsOfALoop) {
  for (const int columns : {1, 2}) {
    run_over_gloo("dualpipe-v", 8, columns);
    run_over_gloo("1f1b", 4, columns);
  }
}

/// A stage of each column: a block, then rows in halves to the two experts, and back.
OwnModel model_of_experts() {
  OwnModel model = model_of_blocks();
  model.sample = torch::Tensor();
  model.make_stage = [](const StagePlace& place) {
    const auto halves = [](const std::vector<at::Tensor>& in) {
      const std::int64_t half = in[0].size(0) / 2;
      return RowSplits{{half, half}, {half, half}};
    };
    const std::string stage = std::to_string(place.stage);
    const std::string expert = stage + ".expert" + std::to_string(place.expert.member);
    const int seed = 20 + 2 * place.stage + place.expert.member;
    return StageSegments{module_segment(stage + ".attn", make_block(place.stage)),
                         std::make_shared<ExchangeSegment>(stage + ".dispatch", 0, true, halves),
                         module_segment(expert + ".mlp", make_block(seed), Group::kData),
                         std::make_shared<ExchangeSegment>(stage + ".combine", 0, true, halves),
                         module_segment(stage + ".join", make_block(10 + place.stage))};
  };
  return model;
}

TEST(Pipeline, ExpertsBraidedGiveTheBitsOfTheReference) {
  for (const int data : {1, 2}) {
    std::map<std::string, std::vector<torch::Tensor>> gradients[2];
    double losses[2];
    for (const bool reference : {false, true}) {
      const auto pipeline = Pipeline::make(model_of_experts(), {.microbatches = kMicrobatches,
                                                                .data = data,
                                                                .expert = 2,
                                                                .pairs = "braid",
                                                                .reference = reference});
      ASSERT_TRUE(pipeline) << pipeline.error().text();
      const Expected<StepOutcome> outcome = (*pipeline)->step(make_batch(2 * data));
      ASSERT_TRUE(outcome) << outcome.error().text();
      losses[reference] = outcome->line.loss;
      for (const Parameter& one : (*pipeline)->named_parameters())
        gradients[reference][one.name].push_back(one.tensor.grad());
      EXPECT_EQ(outcome->line.pairs_braided > 0, !reference);
    }
    EXPECT_EQ(losses[0], losses[1]);
    ASSERT_EQ(gradients[0].size(), gradients[1].size());
    for (const auto& [name, mine] : gradients[0]) {
      const std::vector<torch::Tensor>& theirs = gradients[1].at(name);
      ASSERT_EQ(mine.size(), theirs.size()) << name;
      for (std::size_t i = 0; i < mine.size(); ++i) EXPECT_TRUE(mine[i].equal(theirs[i])) << name;
    }
  }
}

TEST(Pipeline, ColumnsMustBeginAlike) {
  OwnModel model = model_of_blocks();
  model.make_stage = [](const StagePlace& place) {
    return StageSegments{module_segment("x" + std::to_string(place.stage),
                                        make_block(place.stage + 9 * place.column))};
  };
  const auto pipeline = Pipeline::make(std::move(model), {.data = 2});
  ASSERT_FALSE(pipeline);
  EXPECT_EQ(pipeline.error().text(),
            "x0.linear.bias: columns 0 and 1 begin with different numbers, needed the same in all "
            "that hold it");
}

/// Bounds for a stage of two blocks.
PartMemory memory_of_blocks() {
  constexpr Bytes kState = sizeof(float) * kRows * kWidth;
  constexpr Bytes kWeights = sizeof(float) * (kWidth + 1) * kWidth;
  PartMemory part;
  part.input = part.gradient = kState;
  part.saved = 6 * kState;             // of each block x and tanh; the output, the loss
  part.saved_for_weight = 4 * kState;  // of each block x and the gradient of linear(x)
  part.forward = part.forward_only = 6 * kState;
  part.backward_input = 6 * kState;
  part.backward_weight = 2 * kWeights;
  part.backward = part.backward_input + part.backward_weight;
  return part;
}

// As for jobs (memory_plan_test.cc): what stays is planned to the byte, activations are a bound.
TEST(Pipeline, NoRankNeedsMoreThanWasPlanned) {
  for (const char* schedule : {"dualpipe-v", "zbv", "gpipe"}) {
    for (const int columns : {1, 2}) {
      for (const bool trains : {true, false}) {
        SCOPED_TRACE(::testing::Message()
                     << schedule << ", " << columns << " columns, trains " << trains);
        OwnModel model = model_of_blocks();
        const int stages = schedule == std::string("gpipe") ? 2 : 4;
        model.memory.assign(static_cast<std::size_t>(stages), {memory_of_blocks()});
        PipelineOptions options{
            .microbatches = kMicrobatches, .schedule = schedule, .data = columns};
        if (trains) options.optimizer.emplace();
        options.steps = 2;
        const auto pipeline = Pipeline::make(std::move(model), options);
        ASSERT_TRUE(pipeline) << pipeline.error().text();
        std::vector<std::int64_t> peaks(static_cast<std::size_t>(2 * columns));
        for (int step = 0; step < 2; ++step) {
          const auto outcome = (*pipeline)->step(make_batch(columns, step));
          ASSERT_TRUE(outcome) << outcome.error().text();
          for (std::size_t rank = 0; rank < peaks.size(); ++rank)
            peaks[rank] = std::max(peaks[rank], outcome->line.peak_activation_bytes[rank]);
        }
        const std::vector<Bytes> lasting = (*pipeline)->lasting_bytes();
        for (std::size_t rank = 0; rank < peaks.size(); ++rank) {
          const Grid grid{2, columns, 1};
          const auto place = static_cast<std::size_t>(grid.pipeline_of(static_cast<int>(rank)));
          const RankMemory& planned = (*pipeline)->memory()[place];
          // 2 blocks a stage: 42 numbers each, their gradients, and two moments.
          const Bytes numbers = Bytes{2} * stages / 2 * (kWidth + 1) * kWidth;
          EXPECT_EQ(planned.lasting(), 4 * numbers * (trains ? 4 : 2) + Bytes{8} * kMicrobatches);
          EXPECT_EQ(planned.reductions > 0, columns > 1);
          EXPECT_EQ(lasting[rank], planned.lasting());
          EXPECT_LE(peaks[rank], *planned.activations);
          EXPECT_GE(3 * peaks[rank], *planned.activations);
        }
      }
    }
  }
}

TEST(Pipeline, ShardedReplicasKeepWhatWasPlanned) {
  for (const char* mode : {"optimizer", "gradients", "parameters"}) {
    SCOPED_TRACE(mode);
    PipelineOptions options{.microbatches = kMicrobatches, .schedule = "zbv", .data = 2};
    options.optimizer.emplace();
    options.steps = 2;
    options.shard = mode;
    const auto pipeline = Pipeline::make(model_of_blocks(), options);
    ASSERT_TRUE(pipeline) << pipeline.error().text();
    for (int step = 0; step < 2; ++step) {
      const auto outcome = (*pipeline)->step(make_batch(/*columns=*/2, step));
      ASSERT_TRUE(outcome) << outcome.error().text();
      const std::vector<Bytes> lasting = (*pipeline)->lasting_bytes();
      for (const std::size_t place : {0U, 1U}) {
        const RankMemory& planned = (*pipeline)->memory()[place];
        // Its two columns: the plan is that of the one that owns more.
        EXPECT_EQ(std::max(lasting[2 * place], lasting[2 * place + 1]), planned.lasting());
        for (const std::size_t rank : {2 * place, 2 * place + 1})
          EXPECT_LE(outcome->line.peak_state_bytes[rank], planned.state());
      }
    }
  }
}

/// What a stage's parts need may be said; else nothing is claimed of activations.
TEST(Pipeline, ActivationsAreKnownIfThePartsSayIt) {
  const auto unknown = Pipeline::make(model_of_blocks(), {.microbatches = kMicrobatches});
  ASSERT_TRUE(unknown);
  EXPECT_FALSE((*unknown)->memory().front().activations);
  EXPECT_THAT((*unknown)->describe_memory(),
              HasSubstr("activations: not known, the model's parts do not say what they need\n"));
  OwnModel model = model_of_blocks();
  model.memory.assign(4, {memory_of_blocks()});
  const auto known = Pipeline::make(std::move(model), {.microbatches = kMicrobatches});
  ASSERT_TRUE(known);
  EXPECT_THAT((*known)->describe_memory(), ::testing::Not(HasSubstr("not known")));
}

std::vector<StageSegments> stages_of(int blocks) {
  std::vector<StageSegments> stages(static_cast<std::size_t>(blocks) / 2);
  for (int i = 0; i < blocks; ++i) {
    stages[static_cast<std::size_t>(i) / 2].push_back(module_segment(block_name(i), make_block(i)));
  }
  return stages;
}

TEST(Pipeline, SaysWhatDoesNotFit) {
  const auto error = [&](std::vector<StageSegments> stages, const PipelineOptions& options) {
    auto pipeline = Pipeline::make(std::move(stages), loss_of, options);
    return pipeline ? std::string() : pipeline.error().text();
  };
  EXPECT_EQ(error(stages_of(6), {2, 4}),
            "dualpipe-v on 2 ranks has 4 stages, found segments for 3");
  EXPECT_THAT(error(stages_of(8), {2, 4, "dualpipe"}), HasSubstr("keeps 2 copies"));
  EXPECT_THAT(error(stages_of(8), {2, 4, "no-such"}), HasSubstr("no-such"));
  std::vector<StageSegments> empty = stages_of(8);
  empty[2].clear();
  EXPECT_EQ(error(std::move(empty), {2, 4}), "stage 2 has no segment");
  std::vector<StageSegments> shared = stages_of(8);
  shared[3] = shared[0];
  EXPECT_EQ(error(std::move(shared), {2, 4}),
            "stage 3 holds 0.block.linear.weight, which an earlier stage holds too; needed "
            "parameters of its own");
  std::vector<StageSegments> twice = stages_of(8);
  twice[0].push_back(module_segment(block_name(0), make_block(0)));
  EXPECT_EQ(error(std::move(twice), {2, 4}),
            "0.block.linear.weight: two tensors have this name, needed one for each");
}

TEST(Pipeline, AStepThatFailsNamesTheSegmentAndEndsIt) {
  auto pipeline = Pipeline::make(stages_of(8), loss_of, {2, kMicrobatches, "1f1b"});
  EXPECT_FALSE(pipeline);  // it has two stages
  pipeline = Pipeline::make(stages_of(8), loss_of, {2, kMicrobatches, "zbv"});
  ASSERT_TRUE(pipeline);
  StepBatch batch = make_batch(1);
  EXPECT_EQ((*pipeline)->step({{}, batch.targets}).error().message,
            "found 0 inputs and 4 targets, needed one for each of 4 micro-batches");
  batch.inputs[1] = torch::randn({3, kWidth + 1});
  const Expected<StepOutcome> failed = (*pipeline)->step(batch);
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().text(), HasSubstr("0.block"));
  EXPECT_EQ((*pipeline)->step(make_batch(1)).error().text(), failed.error().text());
}

}  // namespace
}  // namespace plait
