#include "plait/train/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "plait/base/read_file.h"
#include "plait/braid/braid_text.h"
#include "plait/checkpoint/model_folder.h"
#include "plait/model/architectures.h"
#include "plait/passes/passes.h"
#include "plait/program/programs.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/source.h"
#include "plait/train/reduce.h"

namespace plait {
namespace {

Expected<LayerOrder> read_layer_order(const std::string& path) {
  PLAIT_TRY(const std::string text, read_file(path, "braid"));
  PLAIT_TRY(const LayerBraid braid, read_braid_text(text, path));
  return braid.order();
}

/// The residual stream of one micro-batch's sequences in one column.
TensorSpec stream_of(const JobConfig& job, const Grid& grid) {
  const std::int64_t sequences = job.run.batch_size / (job.parallel.microbatches * grid.columns());
  return {{sequences, job.data.sequence_length, job.model.hidden_size}, TensorDtype::kFloat32};
}

std::string megabytes(Bytes bytes) {
  return fmt::format("{:.1f}", static_cast<double>(bytes) / 1e6);
}

}  // namespace

Expected<JobPlan> make_plan(JobConfig job) {
  std::vector<std::string> notes;
  if (!job.model.init.empty()) {
    PLAIT_TRY(job.model, read_model_config(job.model.init, job.model));
    PLAIT_TRY(notes, check_model_folder(job.model.init, job.model));
  }
  const ParallelConfig& parallel = job.parallel;
  PLAIT_TRY(Schedule schedule,
            schedule_by_name_or_file(parallel.schedule,
                                     {parallel.pipeline, parallel.microbatches, parallel.chunks}));
  if (schedule.forward_only) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} has no backward, needed a schedule that trains", schedule.name),
                "parallel.schedule");
  }
  if (schedule.placement.ranks != parallel.pipeline ||
      schedule.microbatches != parallel.microbatches) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} has {} ranks and {} micro-batches, the job has {} and {}",
                            parallel.schedule, schedule.placement.ranks, schedule.microbatches,
                            parallel.pipeline, parallel.microbatches),
                "parallel.schedule");
  }
  if (parallel.pairs == "off") {
    PLAIT_TRY(schedule, unpair(std::move(schedule), {}));
  }
  const Placement placement = schedule.placement;
  if (placement.copies > 1) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} keeps {} copies of the model, this version trains one",
                            schedule.name, placement.copies),
                "parallel.schedule");
  }
  PLAIT_TRY(std::vector<StagePart> parts,
            partition_layers(job.model, placement.stages(), job.data.sequence_length,
                             parallel.layers_per_stage));
  PLAIT_TRY_VOID(check_tied_embeddings(job.model, placement.rank_of(0),
                                       placement.rank_of(placement.stages() - 1)));
  PLAIT_TRY(Schedule forward_only, generate_forward_only(placement, parallel.microbatches));
  Schedule compute_only = schedule;
  const Grid grid{placement.ranks, parallel.data, parallel.expert};
  PLAIT_TRY(VerifiedSchedule training,
            prove_lowered(std::move(schedule),
                          grid.columns() > 1 ? Reductions::kInserted : Reductions::kNone));
  PLAIT_TRY(VerifiedSchedule validation, prove_lowered(std::move(forward_only), Reductions::kNone));
  LowerOptions options;
  options.braid = parallel.pairs == "braid";
  if (!parallel.braid.empty()) {
    PLAIT_TRY(options.order, read_layer_order(parallel.braid));
  }
  const std::set<std::string> recomputed = recomputed_words(parallel.recompute);
  for (const StagePart& part : parts)
    options.shapes.push_back(
        stage_shape(segments_of(job.model, part), parallel.expert, recomputed));
  options.boundaries.assign(static_cast<std::size_t>(placement.stages() - 1),
                            Boundary({stream_of(job, grid)}));
  PLAIT_TRY(std::vector<RankProgram> validation_programs, lower_all(validation, options));
  options.reduced = reduced_groups(job.model, parts, grid);
  PLAIT_TRY(std::vector<RankProgram> training_programs, lower_all(training, options));
  std::vector<RankMemory> memory =
      plan_memory({job, placement, parts, recomputed, training_programs, validation_programs});
  PLAIT_TRY_VOID(check_memory(job, memory));
  return JobPlan{
      std::move(job),        std::move(compute_only),      std::move(training),
      std::move(validation), std::move(training_programs), std::move(validation_programs),
      std::move(parts),      std::move(options.shapes),    std::move(memory),
      std::move(notes)};
}

Bytes JobPlan::message_bytes() const { return stream_of(job, grid()).bytes(); }

bool JobPlan::has_exchanges() const {
  return std::any_of(shapes.begin(), shapes.end(),
                     [](const StageShape& shape) { return shape.size() > 1; });
}

std::set<std::string> JobPlan::recomputed() const {
  return recomputed_words(job.parallel.recompute);
}

std::string describe_pairs(const JobPlan& plan) {
  int forwards = 0, braided = 0, in_sequence = 0;
  for (const RankProgram& program : plan.training_programs) {
    for (const Instruction& instruction : program.instructions) {
      if (instruction.opcode != Opcode::kForward || instruction.part != 0) continue;
      ++forwards;
      if (instruction.pair >= 0) ++(instruction.braided ? braided : in_sequence);
    }
  }
  if (braided + in_sequence == 0) return fmt::format("pairs: none of {} forwards\n", forwards);
  std::string text = fmt::format("pairs: {} of {} forwards ({:.0f}%)", braided + in_sequence,
                                 forwards, 100.0 * (braided + in_sequence) / forwards);
  if (braided > 0) text += fmt::format(", {} braided", braided);
  if (in_sequence > 0) {
    text += fmt::format(
        ", {} in sequence ({})", in_sequence,
        plan.job.parallel.pairs == "braid" ? "no exchange to hide" : "as parallel.pairs asks");
  }
  return text + "\n";
}

std::string describe_nothing_to_do(const JobPlan& plan) {
  int sharding = 0, reductions = 0;
  for (const RankProgram& program : plan.training_programs) {
    for (const Instruction& one : program.instructions) {
      if (one.opcode == Opcode::kUnshard || one.opcode == Opcode::kReshard) ++sharding;
      if (one.opcode == Opcode::kReduceNothing) ++reductions;
    }
  }
  std::string text;
  if (sharding > 0) {
    text += fmt::format(
        "UNSHARD and RESHARD: {} instructions with nothing to do, parameters are held whole\n",
        sharding);
  }
  if (reductions > 0) {
    text += fmt::format(
        "REDUCE_GRAD: {} instructions with nothing to do, no two ranks hold the same parameters\n",
        reductions);
  }
  return text;
}

namespace {

/// The global ranks that stand at a pipeline rank: "3", or "6-7".
std::string ranks_at(const Grid& grid, int pipeline_rank) {
  const int first = grid.rank_of(pipeline_rank, 0);
  return grid.columns() == 1 ? std::to_string(first)
                             : fmt::format("{}-{}", first, first + grid.columns() - 1);
}

}  // namespace

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
        ranks_at(plan.grid(), plan.placement().rank_of(stage)), fmt::join(holds, ", "),
        parameter_count(plan.job.model, part),
        100 * forward_flops_per_token(plan.job.model, part, plan.job.data.sequence_length) / all);
  }
  return text;
}

std::string describe_memory(const JobPlan& plan) {
  std::string text =
      fmt::format("{:>5}  {:>10}  {:>10}  {:>10}  {:>10}  {:>12}  {:>14}  (MB, at most)\n", "rank",
                  "weights", "gradients", "reductions", "optimizer", "activations", "bytes in all");
  for (int rank = 0; rank < plan.placement().ranks; ++rank) {
    const RankMemory& memory = plan.memory[static_cast<std::size_t>(rank)];
    text += fmt::format("{:>5}  {:>10}  {:>10}  {:>10}  {:>10}  {:>12}  {:>14}\n",
                        ranks_at(plan.grid(), rank), megabytes(memory.weights),
                        megabytes(memory.gradients), megabytes(memory.reductions),
                        megabytes(memory.optimizer), megabytes(memory.activations), memory.total());
  }
  return text;
}

}  // namespace plait
