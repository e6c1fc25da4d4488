#include "plait/train/train_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <utility>

#include "plait/base/read_file.h"
#include "plait/braid/braid_text.h"
#include "plait/passes/passes.h"
#include "plait/program/programs.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/source.h"

namespace plait {
namespace {

Expected<LayerOrder> read_layer_order(const std::string& path) {
  PLAIT_TRY(const std::string text, read_file(path, "braid"));
  PLAIT_TRY(const LayerBraid braid, read_braid_text(text, path));
  return braid.order();
}

/// prove_lowered() as the job asks for it; errors name the job's key, not the command's flag.
Expected<VerifiedSchedule> prove_asked(Schedule schedule, const ReplicaWork& replicas,
                                       const ParallelConfig& parallel) {
  Expected<VerifiedSchedule> proven = prove_lowered(
      std::move(schedule), replicas,
      {parallel.max_active_stages, parallel.unshard_lookahead, parallel.max_outstanding_sends});
  if (proven || !proven.error().where.starts_with("--")) return proven;
  Error error = std::move(proven.error());
  std::string key = error.where.substr(2);
  std::replace(key.begin(), key.end(), '-', '_');
  error.where = "parallel." + key;
  return tl::unexpected<Error>(std::move(error));
}

}  // namespace

bool TrainPlan::has_exchanges() const {
  return std::any_of(shapes.begin(), shapes.end(),
                     [](const StageShape& shape) { return shape.size() > 1; });
}

Expected<Schedule> training_schedule(const ParallelConfig& parallel) {
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
  if (schedule.placement.copies > 1) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} keeps {} copies of the model, this version trains one",
                            schedule.name, schedule.placement.copies),
                "parallel.schedule");
  }
  return schedule;
}

Expected<TrainPlan> make_train_plan(Schedule schedule, const ParallelConfig& parallel,
                                    StagesInfo stages, int rounds) {
  const Grid grid{schedule.placement.ranks, parallel.data, parallel.expert};
  PLAIT_TRY(Schedule forward_only,
            generate_forward_only(schedule.placement, parallel.microbatches));
  Schedule compute_only = schedule;
  const bool replicas = grid.columns() > 1;
  LowerOptions options;
  options.shard = replicas ? shard_mode_of(parallel.shard) : ShardMode::kNone;
  if (options.shard != ShardMode::kNone) options.sharded = stages.reduced;
  PLAIT_TRY(VerifiedSchedule training,
            prove_asked(std::move(schedule), {replicas, options.shard}, parallel));
  PLAIT_TRY(VerifiedSchedule validation,
            prove_asked(std::move(forward_only), {false, options.shard}, parallel));
  options.braid = parallel.pairs == "braid";
  if (!parallel.braid.empty()) {
    PLAIT_TRY(options.order, read_layer_order(parallel.braid));
  }
  options.shapes = std::move(stages.shapes);
  options.boundaries = std::move(stages.boundaries);
  PLAIT_TRY(std::vector<RankProgram> validation_programs, lower_all(validation, options));
  std::vector<RankProgram> accumulating_programs;
  if (rounds > 1) {
    PLAIT_TRY(accumulating_programs, lower_all(training, options));
  }
  options.reduced = std::move(stages.reduced);
  PLAIT_TRY(std::vector<RankProgram> training_programs, lower_all(training, options));
  return TrainPlan{.compute_only = std::move(compute_only),
                   .training = std::move(training),
                   .validation = std::move(validation),
                   .training_programs = std::move(training_programs),
                   .accumulating_programs = std::move(accumulating_programs),
                   .validation_programs = std::move(validation_programs),
                   .shapes = std::move(options.shapes),
                   .data = parallel.data,
                   .expert = parallel.expert,
                   .braids = options.braid,
                   .shard = options.shard,
                   .rounds = rounds};
}

std::string describe_pairs(const TrainPlan& plan) {
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
    text += fmt::format(", {} in sequence ({})", in_sequence,
                        plan.braids ? "no exchange to hide" : "as parallel.pairs asks");
  }
  return text + "\n";
}

std::string describe_rounds(const TrainPlan& plan) {
  if (plan.rounds == 1) return "";
  return fmt::format(
      "rounds: {} of {} micro-batches make a step, gradients are summed and divided in the last\n",
      plan.rounds, plan.microbatches());
}

std::string describe_shards(const TrainPlan& plan) {
  if (plan.shard == ShardMode::kNone) return "";
  constexpr std::array<const char*, 4> kWhat{"", "optimiser state is",
                                             "gradients and optimiser state are",
                                             "parameters, gradients and optimiser state are"};
  const auto mode = static_cast<std::size_t>(plan.shard);
  return fmt::format("shard: {} cut over {} replicas (ZeRO-{})\n", kWhat[mode],
                     plan.grid().columns(), mode);
}

std::string describe_nothing_to_do(const TrainPlan& plan) {
  int sharding = 0, reductions = 0, waits = 0;
  for (const RankProgram& program : plan.training_programs) {
    for (const Instruction& one : program.instructions) {
      if (plan.shard == ShardMode::kNone && is_sharding(one.action.type)) ++sharding;
      if (one.opcode != Opcode::kReduceNothing) continue;
      ++reductions;
      waits += is_wait(one.action.type) ? 1 : 0;
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
        "REDUCE_GRAD{}: {} instructions with nothing to do, no two ranks hold the same "
        "parameters\n",
        waits > 0 ? " and its wait" : "", reductions);
  }
  return text;
}

}  // namespace plait
