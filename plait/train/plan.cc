#include "plait/train/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>
#include <utility>

#include "plait/base/numbers_of.h"
#include "plait/checkpoint/hf_config.h"
#include "plait/checkpoint/model_folder.h"
#include "plait/model/architectures.h"
#include "plait/model/dtypes.h"
#include "plait/model/names.h"
#include "plait/nn/model.h"
#include "plait/train/reduce.h"
#include "plait/train/shard_memory.h"

namespace plait {
namespace {

/// In one column.
MicrobatchShape microbatch_of(const JobConfig& job) {
  MicrobatchShape shape;
  shape.sequences = job.sequences_per_microbatch();
  shape.sequence_length = job.data.sequence_length;
  shape.members = job.parallel.expert;
  shape.token_bound = job.parallel.token_bound;
  shape.threads = job.run.threads;
  shape.compute = dtype_named(job.run.dtype);
  return shape;
}

/// The residual stream of one micro-batch's sequences in one column.
TensorSpec stream_of(const JobConfig& job) {
  const MicrobatchShape shape = microbatch_of(job);
  return {{shape.sequences, shape.sequence_length, job.model.hidden_size}, shape.compute};
}

/// Of a rank's stages, in order of names. Of the routed experts those that the first column holds:
/// all columns hold as many.
std::vector<PlannedParameter> parameters_of(const ModelConfig& model,
                                            const std::vector<StagePart>& parts,
                                            const std::vector<int>& stages, int expert,
                                            Dtype compute) {
  std::set<std::string> rounded;
  for (const int stage : stages) {
    for (const SegmentSpec& segment :
         segments_of(model, parts[static_cast<std::size_t>(stage)], {0, expert})) {
      for (const ModelTensor& tensor : segment.tensors)
        if (compute != kDtypes.parameter && segment.rounds(tensor)) rounded.insert(tensor.name);
    }
  }
  std::vector<PlannedParameter> all;
  for (const auto& [name, shape] : parameter_shapes(model)) {
    PlannedParameter one;
    one.name = name;
    const std::optional<ExpertOfLayer> routed = expert_of(name);
    if (routed && routed->expert >= model.n_routed_experts / expert) continue;
    if (routed) one.holders = Group::kData;
    for (const int stage : stages) {
      if (holds(model, parts[static_cast<std::size_t>(stage)], name)) one.stages.insert(stage);
    }
    if (one.stages.empty()) continue;
    one.numbers = numbers_of(shape);
    if (name == kEmbeddingName && model.tie_word_embeddings) one.gradients = 2;
    if (rounded.contains(name)) one.rounded = bytes_of(compute) * one.numbers;
    all.push_back(std::move(one));
  }
  return all;
}

Expected<void> shard_job(const JobConfig& job, const std::vector<StagePart>& parts,
                         const TrainPlan& plan, std::vector<RankMemory>& memory) {
  for (std::size_t rank = 0; rank < memory.size(); ++rank) {
    const std::vector<int> stages = plan.placement().stages_of(static_cast<int>(rank));
    PLAIT_TRY_VOID(shard_memory(
        parameters_of(job.model, parts, stages, job.parallel.expert, dtype_named(job.run.dtype)),
        plan.grid(), {plan.training_programs[rank], plan.validation_programs[rank], plan.rounds},
        memory[rank]));
  }
  return {};
}

}  // namespace

Expected<JobPlan> make_plan(JobConfig job) {
  std::vector<std::string> notes;
  if (!job.model.init.empty()) {
    PLAIT_TRY(ModelConfig folder, read_model_config(job.model.init, job.model));
    PLAIT_TRY_VOID(check_given_keys(folder, job.model, job.origins.by_key));
    job.model = std::move(folder);
    PLAIT_TRY(notes, check_model_folder(job.model.init, job.model));
  }
  const ParallelConfig& parallel = job.parallel;
  if (parallel.shard != "none" && parallel.data * parallel.expert == 1) {
    notes.push_back(
        fmt::format("parallel.shard is '{}', and nothing is shared out: data and expert "
                    "are 1, so there are no replicas",
                    parallel.shard));
  }
  PLAIT_TRY(Schedule schedule, training_schedule(parallel));
  const Placement placement = schedule.placement;
  PLAIT_TRY(std::vector<StagePart> parts,
            partition_layers(job.model, placement.stages(), job.data.sequence_length,
                             parallel.layers_per_stage));
  PLAIT_TRY_VOID(check_tied_embeddings(job.model, placement.rank_of(0),
                                       placement.rank_of(placement.stages() - 1)));
  const std::set<std::string> recomputed = recomputed_words(parallel.recompute);
  const Grid grid{placement.ranks, parallel.data, parallel.expert};
  StagesInfo stages;
  stages.boundaries.assign(static_cast<std::size_t>(placement.stages() - 1),
                           Boundary({stream_of(job)}));
  for (const StagePart& part : parts)
    stages.shapes.push_back(stage_shape(segments_of(job.model, part), parallel.expert, recomputed));
  stages.reduced = reduced_groups(job.model, parts, grid);
  PLAIT_TRY(TrainPlan plan, make_train_plan(std::move(schedule), parallel, std::move(stages),
                                            job.optimizer.accumulate));
  const MicrobatchShape microbatch = microbatch_of(job);
  std::vector<std::vector<PartMemory>> of_parts;
  for (const StagePart& part : parts)
    of_parts.push_back(part_memory(job.model, part, microbatch, recomputed));
  std::vector<RankMemory> memory =
      model_memory({job.model, parts, placement, grid, microbatch, parallel.microbatches});
  PLAIT_TRY_VOID(shard_job(job, parts, plan, memory));
  set_activations(memory, plan.training_programs, plan.validation_programs, of_parts);
  if (job.checkpoint.every > 0) {
    // Of column 0, which speaks for most.
    for (RankMemory& one : memory) one.snapshot = one.weights + one.optimizer;
  }
  PLAIT_TRY_VOID(check_memory(parallel.memory_limit_bytes, grid, memory));
  return JobPlan(std::move(plan), std::move(job), std::move(parts), std::move(memory),
                 std::move(notes));
}

Dtype JobPlan::compute_dtype() const { return dtype_named(job.run.dtype); }

Bytes JobPlan::message_bytes() const { return stream_of(job).bytes(); }

std::set<std::string> JobPlan::recomputed() const {
  return recomputed_words(job.parallel.recompute);
}

std::string describe_stages(const JobPlan& plan) {
  std::string text = fmt::format("{:>5}  {:>5}  {:<24} {:>12}  {:>6}\n", "stage", "rank", "holds",
                                 "parameters", "cost");
  double all = 0;
  for (const StagePart& part : plan.parts)
    all += forward_flops_per_token(plan.job.model, part, plan.job.data.sequence_length);
  for (int stage = 0; stage < plan.stages(); ++stage) {
    const StagePart& part = plan.parts[static_cast<std::size_t>(stage)];
    std::vector<std::string> holds;
    if (part.embedding) holds.emplace_back("embedding");
    if (part.layers() == 1) holds.push_back(fmt::format("layer {}", part.first_layer));
    if (part.layers() > 1)
      holds.push_back(fmt::format("layers {}-{}", part.first_layer, part.end_layer - 1));
    if (part.head) holds.emplace_back("head");
    text += fmt::format(
        "{:>5}  {:>5}  {:<24} {:>12}  {:>5.1f}%\n", stage,
        ranks_at(plan.grid(), plan.placement().rank_of(stage)),
        fmt::format("{}", fmt::join(holds, ", ")), parameter_count(plan.job.model, part),
        100 * forward_flops_per_token(plan.job.model, part, plan.job.data.sequence_length) / all);
  }
  return text;
}

}  // namespace plait
