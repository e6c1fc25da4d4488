#include "plait/train/pipeline.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "plait/checkpoint/safetensors.h"
#include "plait/train/adamw.h"
#include "plait/train/own_model.h"
#include "plait/train/trainer_group.h"

namespace plait {
namespace {

ParallelConfig parallel_of(const PipelineOptions& options) {
  ParallelConfig parallel;
  parallel.pipeline = options.ranks;
  parallel.data = options.data;
  parallel.expert = options.expert;
  parallel.schedule = options.schedule;
  parallel.microbatches = options.microbatches;
  parallel.pairs = options.pairs;
  parallel.shard = options.shard;
  return parallel;
}

/// The caller's own step would find gradients and parameters that are not there.
Expected<void> check_shard(const PipelineOptions& options) {
  if (std::find(kShardModeNames.begin(), kShardModeNames.end(), options.shard) ==
      kShardModeNames.end()) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("PipelineOptions::shard is '{}', needed {}", options.shard,
                            fmt::join(kShardModeNames, ", ")));
  }
  if (options.shard == "none" || options.optimizer) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("PipelineOptions::shard is '{}' without an optimizer, which updates each "
                          "replica's slices; needed PipelineOptions::optimizer",
                          options.shard));
}

TrainSettings settings_of(const PipelineOptions& options) {
  TrainSettings settings;
  settings.threads = options.threads;
  settings.timeout_s = options.timeout_s;
  settings.start_timeout_s = options.start_timeout_s;
  settings.recompute = options.recompute;
  settings.compares_copies = options.data * options.expert > 1;
  if (!options.optimizer) return settings;
  const OptimizerConfig& optimizer = *options.optimizer;
  settings.clip_norm = optimizer.clip_norm;
  settings.learning_rate = [optimizer, steps = options.steps](int step) {
    return learning_rate(optimizer, step, steps);
  };
  settings.optimizer = [optimizer](const std::vector<TrainedSlice>& slices) {
    return std::make_unique<AdamW>(slices, optimizer);
  };
  return settings;
}

Expected<int> rounds_of(const PipelineOptions& options) {
  if (options.optimizer && options.accumulate != 1) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("PipelineOptions::accumulate is {} beside an optimizer, needed "
                            "optimizer->accumulate",
                            options.accumulate));
  }
  const int rounds = options.optimizer ? options.optimizer->accumulate : options.accumulate;
  if (rounds >= 1) return rounds;
  return fail(ErrorCode::kInvalidInput,
              fmt::format("accumulate is {}, needs to be at least 1", rounds));
}

/// Columns of which this process holds the stage.
std::vector<int> columns_here(const PipelineOptions& options, const Grid& grid, int rank_of_stage) {
  std::vector<int> columns;
  for (int column = 0; column < grid.columns(); ++column) {
    if (!options.process || grid.rank_of(rank_of_stage, column) == options.process->rank)
      columns.push_back(column);
  }
  return columns;
}

C10dOptions process_of(const PipelineOptions& options, const TrainPlan& plan) {
  C10dOptions process = *options.process;
  process.ranks = plan.ranks();
  process.grid = plan.grid();
  process.start_timeout_s = options.start_timeout_s;
  process.timeout_s = options.timeout_s;
  std::size_t most = 1;
  for (const Boundary& boundary : plan.training_programs.front().boundaries)
    most = std::max(most, boundary.activation.size());
  process.tags = {plan.stages(), plan.microbatches(), static_cast<int>(most)};
  return process;
}

/// By rank of the pipeline. `parts`: by stage and part; empty: not known.
Expected<std::vector<RankMemory>> memory_of(const TrainPlan& plan, const OwnModelSource& source,
                                            bool trains,
                                            const std::vector<std::vector<PartMemory>>& parts) {
  std::vector<RankMemory> memory(static_cast<std::size_t>(plan.placement().ranks));
  std::vector<std::vector<PlannedParameter>> parameters(memory.size());
  for (int stage = 0; stage < plan.stages(); ++stage) {
    const auto rank = static_cast<std::size_t>(plan.placement().rank_of(stage));
    memory[rank] += source.memory()[static_cast<std::size_t>(stage)];
    const std::vector<PlannedParameter>& more =
        source.parameters()[static_cast<std::size_t>(stage)];
    parameters[rank].insert(parameters[rank].end(), more.begin(), more.end());
  }
  for (std::size_t rank = 0; rank < memory.size(); ++rank) {
    memory[rank].batch = plan.microbatches() * kLossBytes;
    if (!trains) memory[rank].optimizer = 0;
    std::sort(parameters[rank].begin(), parameters[rank].end(),
              [](const PlannedParameter& a, const PlannedParameter& b) { return a.name < b.name; });
    PLAIT_TRY_VOID(shard_memory(
        parameters[rank], plan.grid(),
        {plan.training_programs[rank], plan.validation_programs[rank], plan.rounds}, memory[rank]));
  }
  if (!parts.empty())
    set_activations(memory, plan.training_programs, plan.validation_programs, parts);
  return memory;
}

}  // namespace

struct Pipeline::State {
  State(TrainPlan planned, std::unique_ptr<OwnModelSource> stages)
      : plan(std::move(planned)), source(std::move(stages)) {}

  TrainPlan plan;
  std::unique_ptr<OwnModelSource> source;
  std::vector<RankMemory> memory;  // by rank of the pipeline
  std::unique_ptr<TrainerGroup> group;
  std::optional<Error> error;
};

Pipeline::Pipeline(std::unique_ptr<State> state) : state_(std::move(state)) {}
Pipeline::~Pipeline() = default;

Expected<std::unique_ptr<Pipeline>> Pipeline::make(OwnModel model, const PipelineOptions& options) {
  if (options.link.is_given() && (options.process || options.reference)) {
    return fail(ErrorCode::kInvalidInput, "a link is emulated between ranks that are threads");
  }
  PLAIT_TRY_VOID(check_shard(options));
  const ParallelConfig parallel = parallel_of(options);
  PLAIT_TRY(Schedule schedule, training_schedule(parallel));
  PLAIT_TRY(const int rounds, rounds_of(options));
  const Placement placement = schedule.placement;
  const Grid grid{placement.ranks, options.data, options.expert};
  const std::vector<std::vector<PartMemory>> parts = std::move(model.memory);
  install_counting_allocator();
  auto source = std::make_unique<OwnModelSource>(std::move(model), grid, placement.stages());
  StagesInfo info;
  for (int stage = 0; stage < placement.stages(); ++stage) {
    PLAIT_TRY_VOID(source->add_stage(stage, columns_here(options, grid, placement.rank_of(stage)),
                                     options.recompute, info));
  }
  PLAIT_TRY_VOID(source->check_recompute(options.recompute));
  if (options.process && info.boundaries.empty() && placement.stages() > 1) {
    return fail(ErrorCode::kInvalidInput,
                "processes must know what crosses the boundaries between stages, needed "
                "OwnModel::sample");
  }
  PLAIT_TRY(TrainPlan plan,
            make_train_plan(std::move(schedule), parallel, std::move(info), rounds));
  auto state = std::make_unique<State>(std::move(plan), std::move(source));
  PLAIT_TRY(state->memory,
            memory_of(state->plan, *state->source, options.optimizer.has_value(), parts));
  const TrainSetup setup{state->plan, *state->source, settings_of(options), ""};
  if (options.process) {
    PLAIT_TRY(state->group, TrainerGroup::as_process(setup, process_of(options, state->plan)));
  } else if (options.reference) {
    PLAIT_TRY(state->group, TrainerGroup::as_reference(setup));
  } else {
    PLAIT_TRY(state->group, TrainerGroup::as_threads(setup, options.link));
  }
  if (grid.columns() > 1) {
    PLAIT_TRY_VOID(
        state->group->run([](RankTrainer& trainer, Exchange&) { return trainer.check_copies(); }));
  }
  return std::unique_ptr<Pipeline>(new Pipeline(std::move(state)));
}

Expected<std::unique_ptr<Pipeline>> Pipeline::make(std::vector<StageSegments> stages,
                                                   LossFunction loss,
                                                   const PipelineOptions& options) {
  if (options.data * options.expert > 1) {
    return fail(ErrorCode::kInvalidInput,
                "stages that are made already are one column's, needed OwnModel::make_stage for "
                "data and expert above 1");
  }
  PLAIT_TRY(const Schedule schedule, training_schedule(parallel_of(options)));
  if (static_cast<int>(stages.size()) != schedule.placement.stages()) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} on {} ranks has {} stages, found segments for {}", schedule.name,
                            schedule.placement.ranks, schedule.placement.stages(), stages.size()));
  }
  OwnModel model;
  model.loss = std::move(loss);
  model.make_stage = [made = std::move(stages)](const StagePlace& place) {
    return made[static_cast<std::size_t>(place.stage)];
  };
  return make(std::move(model), options);
}

Expected<StepOutcome> Pipeline::step(StepBatch batch) {
  State& state = *state_;
  if (state.error) return tl::unexpected<Error>(*state.error);
  PLAIT_TRY_VOID(
      state.source->set_batch(std::move(batch), state.plan.microbatches(), state.plan.rounds));
  StepOutcome outcome;
  const RankTrainer* reports = state.group->trainers().front().get();
  const Expected<void> ran =
      state.group->run([&](RankTrainer& trainer, Exchange&) -> Expected<void> {
        PLAIT_TRY(StepOutcome mine, trainer.step(/*stop_signal=*/0));
        state.group->end_start();
        if (&trainer == reports) outcome = std::move(mine);
        return {};
      });
  if (ran) return outcome;
  state.error = ran.error();
  return tl::unexpected<Error>(ran.error());
}

Expected<double> Pipeline::evaluate(StepBatch batch) {
  State& state = *state_;
  if (state.error) return tl::unexpected<Error>(*state.error);
  PLAIT_TRY_VOID(state.source->set_batch(std::move(batch), state.plan.microbatches(), 1));
  double loss = 0;
  const RankTrainer* reports = state.group->trainers().front().get();
  const Expected<void> ran =
      state.group->run([&](RankTrainer& trainer, Exchange&) -> Expected<void> {
        PLAIT_TRY(const ValidationLine line, trainer.validate());
        if (&trainer == reports) loss = line.loss;
        return {};
      });
  if (ran) return loss;
  state.error = ran.error();
  return tl::unexpected<Error>(ran.error());
}

std::vector<at::Tensor> Pipeline::parameters() const {
  std::vector<at::Tensor> all;
  for (const Parameter& parameter : named_parameters()) all.push_back(parameter.tensor);
  return all;
}

std::vector<Parameter> Pipeline::named_parameters() const {
  std::vector<Parameter> all;
  for (const auto& trainer : state_->group->trainers()) {
    for (Parameter& parameter : trainer->parameters()) all.push_back(std::move(parameter));
  }
  return all;
}

std::vector<TrainState> Pipeline::state() {
  std::vector<TrainState> all;
  for (const auto& trainer : state_->group->trainers()) all.push_back(trainer->state());
  return all;
}

Expected<void> Pipeline::save(const std::string& path) {
  return state_->group->run([&](RankTrainer& trainer, Exchange& exchange) {
    SafetensorsSink sink(path, {{"format", "pt"}});
    return trainer.stream(Saved::kModel, exchange.rank() == 0 ? &sink : nullptr);
  });
}

Expected<CostProfile> Pipeline::cost_profile() const {
  const TrainPlan& plan = state_->plan;
  if (plan.has_exchanges() || plan.grid().columns() > 1) {
    return fail(ErrorCode::kInvalidInput,
                "a cost file has no place for segments that exchange rows, nor for reductions");
  }
  Bytes largest = 0;
  for (const Boundary& boundary : plan.training_programs.front().boundaries) {
    Bytes bytes = 0;
    for (const TensorSpec& tensor : boundary.activation) bytes += tensor.bytes();
    largest = std::max(largest, bytes);
  }
  return CostProfile(plan.placement(), largest);
}

std::string Pipeline::summary() const { return state_->plan.training.summary(); }

const std::vector<RankMemory>& Pipeline::memory() const { return state_->memory; }

std::vector<Bytes> Pipeline::lasting_bytes() const {
  std::vector<Bytes> all;
  for (const auto& trainer : state_->group->trainers())
    all.push_back(trainer->lasting().live() + trainer->received().live());
  return all;
}

std::string Pipeline::describe_memory() const {
  std::string text = plait::describe_memory(state_->plan.grid(), state_->memory);
  if (!state_->memory.front().activations)
    text += "activations: not known, the model's parts do not say what they need\n";
  return text;
}

}  // namespace plait
