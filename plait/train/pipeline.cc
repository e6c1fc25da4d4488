#include "plait/train/pipeline.h"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/core.h>

#include <optional>
#include <utility>

#include "plait/program/measured_timeline.h"
#include "plait/program/programs.h"
#include "plait/runtime/driver.h"
#include "plait/runtime/inproc_comm.h"
#include "plait/schedule/source.h"
#include "plait/torch/torch_stage.h"

namespace plait {
namespace {

/// Hands its micro-batch to what the caller's first segment is.
class InputSegment final : public Segment {
 public:
  explicit InputSegment(const std::vector<at::Tensor>& batch) : batch_(batch) {}
  const std::string& name() const override { return name_; }
  std::vector<at::Tensor> forward(const std::vector<at::Tensor>&, int microbatch) override {
    return {batch_[static_cast<std::size_t>(microbatch)]};
  }
  std::vector<Parameter> parameters() const override { return {}; }

 private:
  const std::vector<at::Tensor>& batch_;
  std::string name_ = "input";
};

class LossSegment final : public Segment {
 public:
  LossSegment(Pipeline::Loss loss, const std::vector<at::Tensor>& targets)
      : loss_(std::move(loss)), targets_(targets) {}
  const std::string& name() const override { return name_; }
  std::vector<at::Tensor> forward(const std::vector<at::Tensor>& inputs, int microbatch) override {
    return {loss_(inputs.at(0), targets_[static_cast<std::size_t>(microbatch)])};
  }
  std::vector<Parameter> parameters() const override { return {}; }

 private:
  Pipeline::Loss loss_;
  const std::vector<at::Tensor>& targets_;
  std::string name_ = "loss";
};

Expected<void> check_stages(const std::vector<StageSegments>& stages, const Schedule& schedule) {
  if (static_cast<int>(stages.size()) != schedule.placement.stages()) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} on {} ranks has {} stages, found segments for {}", schedule.name,
                            schedule.placement.ranks, schedule.placement.stages(), stages.size()));
  }
  std::set<const void*> seen;
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    if (stages[stage].empty())
      return fail(ErrorCode::kInvalidInput, fmt::format("stage {} has no segment", stage));
    std::set<const void*> own;
    for (const auto& segment : stages[stage]) {
      for (const Parameter& parameter : segment->parameters()) {
        if (seen.contains(parameter.tensor.unsafeGetTensorImpl())) {
          return fail(ErrorCode::kInvalidInput,
                      fmt::format("stage {} holds {}, which an earlier stage holds too; needed "
                                  "parameters of its own",
                                  stage, parameter.name));
        }
        own.insert(parameter.tensor.unsafeGetTensorImpl());
      }
    }
    seen.merge(own);
  }
  return {};
}

}  // namespace

struct Pipeline::State {
  explicit State(VerifiedSchedule proven, Grid ranks)
      : schedule(std::move(proven)), grid(ranks), world(ranks) {}

  VerifiedSchedule schedule;
  Grid grid;
  InprocWorld world;
  std::vector<at::Tensor> inputs, targets;  // of the step, by micro-batch
  std::shared_ptr<LossSink> losses = std::make_shared<LossSink>();
  std::vector<std::unique_ptr<TorchStage>> stages;
  std::vector<RankProgram> programs;                 // by rank
  std::vector<std::unique_ptr<Executor>> executors;  // by rank
  std::vector<at::Tensor> parameters;
  std::optional<Error> error;
};

Pipeline::Pipeline(std::unique_ptr<State> state) : state_(std::move(state)) {}
Pipeline::~Pipeline() = default;

Expected<std::unique_ptr<Pipeline>> Pipeline::make(std::vector<StageSegments> stages, Loss loss,
                                                   const PipelineOptions& options) {
  PLAIT_TRY(Schedule schedule,
            schedule_by_name_or_file(options.schedule, {options.ranks, options.microbatches}));
  if (schedule.forward_only || schedule.placement.copies > 1) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} {}, needed a schedule that trains one copy", schedule.name,
                            schedule.forward_only ? "has no backward" : "keeps several copies"));
  }
  PLAIT_TRY_VOID(check_stages(stages, schedule));
  PLAIT_TRY(VerifiedSchedule proven, prove_lowered(std::move(schedule), Reductions::kNone));
  const Grid grid{proven.placement().ranks, 1, 1};
  auto state = std::make_unique<State>(std::move(proven), grid);
  stages.front().insert(stages.front().begin(), std::make_shared<InputSegment>(state->inputs));
  stages.back().push_back(std::make_shared<LossSegment>(std::move(loss), state->targets));
  LowerOptions lowering;
  std::vector<Stage*> pointers;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    for (const auto& segment : stages[i]) {
      for (const Parameter& parameter : segment->parameters())
        state->parameters.push_back(parameter.tensor);
    }
    state->stages.push_back(std::make_unique<TorchStage>(
        std::move(stages[i]), i + 1 == stages.size() ? state->losses : nullptr, GroupPlace{},
        options.recompute));
    lowering.shapes.push_back(state->stages.back()->shape());
    pointers.push_back(state->stages.back().get());
  }
  PLAIT_TRY(state->programs, lower_all(state->schedule, lowering));
  for (const RankProgram& program : state->programs) {
    state->executors.push_back(
        std::make_unique<Executor>(program, pointers, state->world.comm(program.rank)));
  }
  return std::unique_ptr<Pipeline>(new Pipeline(std::move(state)));
}

Expected<double> Pipeline::step(std::vector<at::Tensor> inputs, std::vector<at::Tensor> targets) {
  State& state = *state_;
  if (state.error) return tl::unexpected<Error>(*state.error);
  const auto microbatches = static_cast<std::size_t>(state.schedule.schedule().microbatches);
  if (inputs.size() != microbatches || targets.size() != microbatches) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("found {} inputs and {} targets, needed one for each of {} "
                            "micro-batches",
                            inputs.size(), targets.size(), microbatches));
  }
  state.inputs = std::move(inputs);
  state.targets = std::move(targets);
  state.losses->reset(static_cast<int>(microbatches));
  for (const at::Tensor& parameter : state.parameters) {
    at::Tensor& gradient = parameter.mutable_grad();
    gradient.defined() ? gradient.zero_() : gradient = at::zeros_like(parameter.detach());
  }
  const Expected<void> ran = run_ranks(
      state.grid.ranks(),
      [&](int rank) {
        at::set_num_threads(1);
        return run_step(*state.executors[static_cast<std::size_t>(rank)], Wait::kSpin,
                        Chaining::kOwnThread);
      },
      [&](const Error& error) { state.world.abort(error); });
  if (!ran) {
    state.error = ran.error();
    return tl::unexpected<Error>(ran.error());
  }
  for (const at::Tensor& parameter : state.parameters)
    parameter.mutable_grad().div_(static_cast<double>(microbatches));
  return state.losses->mean();
}

std::vector<at::Tensor> Pipeline::parameters() const { return state_->parameters; }

std::string Pipeline::summary() const { return state_->schedule.summary(); }

Timeline Pipeline::timeline() const {
  std::vector<InstructionTimes> times;
  for (const auto& executor : state_->executors) times.push_back(executor->times());
  return MeasuredTimeline(state_->programs, state_->grid).make(times);
}

}  // namespace plait
