#include "plait/train/own_model.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "plait/base/check.h"
#include "plait/torch/tensors.h"
#include "plait/torch/torch_stage.h"

namespace plait {
namespace {

/// A batch holds the micro-batches of all columns: micro-batch 0 of each column, then 1, ….
std::size_t entry_of(int microbatch, int columns, int column) {
  return static_cast<std::size_t>(microbatch) * static_cast<std::size_t>(columns) +
         static_cast<std::size_t>(column);
}

/// Hands its micro-batch to the caller's first segment.
class InputSegment final : public Segment {
 public:
  InputSegment(const StepBatch& batch, std::shared_ptr<const int> first, int columns, int column)
      : batch_(batch), first_(std::move(first)), columns_(columns), column_(column) {}
  const std::string& name() const override { return name_; }
  std::vector<at::Tensor> forward(const std::vector<at::Tensor>&, int microbatch) override {
    return {batch_.inputs[entry_of(*first_ + microbatch, columns_, column_)]};
  }
  std::vector<Parameter> parameters() const override { return {}; }

 private:
  const StepBatch& batch_;
  std::shared_ptr<const int> first_;
  int columns_, column_;
  std::string name_ = "input";
};

class LossSegment final : public Segment {
 public:
  LossSegment(LossFunction loss, const StepBatch& batch, std::shared_ptr<const int> first,
              int columns, int column)
      : loss_(std::move(loss)),
        batch_(batch),
        first_(std::move(first)),
        columns_(columns),
        column_(column) {}
  const std::string& name() const override { return name_; }
  std::vector<at::Tensor> forward(const std::vector<at::Tensor>& inputs, int microbatch) override {
    return {loss_(inputs.at(0), batch_.targets[entry_of(*first_ + microbatch, columns_, column_)])};
  }
  std::vector<Parameter> parameters() const override { return {}; }

 private:
  LossFunction loss_;
  const StepBatch& batch_;
  std::shared_ptr<const int> first_;
  int columns_, column_;
  std::string name_ = "loss";
};

/// What a rank keeps for the stage, and its parameters. A tensor that two segments hold counts
/// once.
RankMemory memory_of(int stage, const StageSegments& segments, const Grid& grid,
                     std::vector<PlannedParameter>& parameters) {
  RankMemory memory;
  std::set<const void*> seen;
  std::map<Group, std::int64_t> numbers;  // by the ranks that hold the same
  for (const std::shared_ptr<Segment>& segment : segments) {
    for (const Parameter& parameter : segment->parameters()) {
      if (!seen.insert(parameter.tensor.unsafeGetTensorImpl()).second) continue;
      const auto bytes = static_cast<Bytes>(parameter.tensor.nbytes());
      memory.weights += bytes;
      memory.gradients += bytes;
      memory.optimizer += kAdamWMoments * bytes;
      numbers[parameter.holders] += parameter.tensor.numel();
      PlannedParameter planned;
      planned.name = parameter.name;
      planned.numbers = parameter.tensor.numel();
      planned.holders = parameter.holders;
      planned.stages = {stage};
      parameters.push_back(std::move(planned));
    }
    for (const Parameter& buffer : segment->buffers()) {
      if (seen.insert(buffer.tensor.unsafeGetTensorImpl()).second)
        memory.weights += static_cast<Bytes>(buffer.tensor.nbytes());
    }
  }
  memory.reductions = reduction_bytes(numbers[Group::kReplicas], grid.columns()) +
                      reduction_bytes(numbers[Group::kData], grid.data);
  return memory;
}

}  // namespace

class OwnModelSource::Rank final : public RankModel {
 public:
  Rank(OwnModelSource& source, int column) : source_(source), column_(column) {}

  Expected<StageSegments> make_stage(int stage, ParameterStore& store) override {
    StageSegments segments = std::move(source_.made_.at({stage, column_}));
    firsts_.push_back(source_.firsts_.at({stage, column_}));
    for (const std::shared_ptr<Segment>& segment : segments) {
      for (const Parameter& parameter : segment->parameters())
        PLAIT_TRY_VOID(store.adopt(parameter));
      for (const Parameter& buffer : segment->buffers()) PLAIT_TRY_VOID(store.adopt_buffer(buffer));
    }
    return segments;
  }
  void begin_round(int, int round) override { set_first(round * source_.microbatches_); }
  HeldOut held_out() const override {
    HeldOut held_out;
    held_out.batches = 1;
    held_out.rows = std::int64_t{source_.microbatches_} * source_.grid_.columns();
    return held_out;
  }
  void begin_validation(int) override { set_first(0); }
  double validation_sum(int, const std::vector<double>& losses) const override {
    double sum = 0;
    for (const double loss : losses) sum += loss;
    return sum;
  }

 private:
  void set_first(int microbatch) {
    for (const std::shared_ptr<int>& first : firsts_) *first = microbatch;
  }

  OwnModelSource& source_;
  int column_;
  std::vector<std::shared_ptr<int>> firsts_;  // of its stages
};

std::unique_ptr<RankModel> OwnModelSource::make_rank(int column, at::Device device) {
  PLAIT_CHECK(device.is_cpu(), "a caller's own modules train on the CPU");
  return std::make_unique<Rank>(*this, column);
}

Expected<StageSegments> OwnModelSource::make_segments(int stage, int column) {
  StageSegments segments = model_.make_stage({stage, column, grid_.expert_place(column)});
  if (segments.empty())
    return fail(ErrorCode::kInvalidInput, fmt::format("stage {} has no segment", stage));
  const int columns = grid_.columns();
  const auto first = std::make_shared<int>(0);
  firsts_[{stage, column}] = first;
  if (stage == 0) {
    segments.insert(segments.begin(),
                    std::make_shared<InputSegment>(batch_, first, columns, column));
  }
  if (stage + 1 == stages_)
    segments.push_back(std::make_shared<LossSegment>(model_.loss, batch_, first, columns, column));
  return segments;
}

Expected<void> OwnModelSource::check_parameters(int stage, int column,
                                                const StageSegments& segments) {
  std::set<const void*>& seen = seen_[column];
  std::set<const void*> own;
  for (const auto& segment : segments) {
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
  return {};
}

Expected<void> OwnModelSource::run_sample(int stage, const StageSegments& segments,
                                          StagesInfo& info) {
  if (!model_.sample.defined() || stage + 1 == stages_) return {};
  // The segments of whichever column were given.
  batch_.inputs.assign(static_cast<std::size_t>(grid_.columns()), model_.sample);
  // As in an expert group of one: exchanges leave everything where it is.
  TorchStage alone(segments);
  PLAIT_TRY(ForwardResult result, alone.forward({}, std::move(sample_), /*for_backward=*/false));
  info.boundaries.emplace_back(result.output->spec());
  sample_ = std::move(result.output);
  return {};
}

Expected<void> OwnModelSource::add_stage(int stage, const std::vector<int>& columns,
                                         const std::set<std::string>& recompute, StagesInfo& info) {
  for (const int column : columns) {
    PLAIT_TRY(StageSegments segments, make_segments(stage, column));
    PLAIT_TRY_VOID(check_parameters(stage, column, segments));
    made_[{stage, column}] = std::move(segments);
  }
  StageSegments segments;
  if (columns.empty()) {
    PLAIT_TRY(segments, make_segments(stage, 0));
  } else {
    segments = made_.at({stage, columns.front()});
  }
  words_.merge(compute_words(segments));
  memory_.push_back(memory_of(stage, segments, grid_, parameters_.emplace_back()));
  PLAIT_TRY_VOID(run_sample(stage, segments, info));
  std::vector<Group> reduced;
  if (grid_.columns() > 1) reduced.push_back(Group::kReplicas);
  for (const auto& segment : segments) {
    const std::vector<Parameter> parameters = segment->parameters();
    const bool experts =
        std::any_of(parameters.begin(), parameters.end(),
                    [](const Parameter& one) { return one.holders == Group::kData; });
    if (experts && grid_.data > 1 && reduced.size() == 1) reduced.push_back(Group::kData);
  }
  info.reduced.push_back(std::move(reduced));
  info.shapes.push_back(
      TorchStage(std::move(segments), nullptr, grid_.expert_place(0), recompute).shape());
  return {};
}

Expected<void> OwnModelSource::check_recompute(const std::set<std::string>& recompute) const {
  for (const std::string& word : recompute) {
    if (words_.contains(word)) continue;
    return fail(ErrorCode::kInvalidInput,
                fmt::format("recompute has '{}', which is the last word of no segment that "
                            "computes, found {}",
                            word, fmt::join(words_, ", ")));
  }
  return {};
}

Expected<void> OwnModelSource::set_batch(StepBatch batch, int microbatches, int rounds) {
  const auto needed = static_cast<std::size_t>(rounds) * static_cast<std::size_t>(microbatches) *
                      static_cast<std::size_t>(grid_.columns());
  if (batch.inputs.size() != needed || batch.targets.size() != needed) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("found {} inputs and {} targets, needed one for each of {} "
                            "micro-batches",
                            batch.inputs.size(), batch.targets.size(), needed));
  }
  batch_ = std::move(batch);
  microbatches_ = microbatches;
  return {};
}

}  // namespace plait
