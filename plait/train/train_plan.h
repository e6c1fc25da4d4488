/// What runs, whoever the model belongs to: schedules proven, programs lowered and checked. Holds
/// no tensors.
#pragma once

#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/job/job_config.h"
#include "plait/program/grid.h"
#include "plait/program/rank_program.h"
#include "plait/verify/verify.h"

namespace plait {

/// What a plan must know of the stages before they are made; lists are by stage.
struct StagesInfo {
  std::vector<StageShape> shapes;
  std::vector<std::vector<Group>> reduced;  ///< over which groups its gradients add up
  Boundaries boundaries;  ///< between stages, of one column; empty: not declared, not checked
};

struct TrainPlan {
  Schedule compute_only;      ///< the schedule before its communication was inserted, for pictures
  VerifiedSchedule training;  ///< lowered and proven
  VerifiedSchedule validation;
  // By rank of the pipeline.
  std::vector<RankProgram> training_programs;      ///< of a step's last round
  std::vector<RankProgram> accumulating_programs;  ///< of its others: gradients stay where they are
  std::vector<RankProgram> validation_programs;
  std::vector<StageShape> shapes;  ///< by stage
  int data = 1;
  int expert = 1;
  bool braids = false;                 ///< pairs with exchanges are braided
  ShardMode shard = ShardMode::kNone;  ///< what replicas share out; kNone without replicas
  /// Runs of the schedule whose gradients make one step of the optimiser. They are summed over
  /// columns and divided once, in the last: torch's finalize_gradients=False in all others.
  int rounds = 1;

  const Placement& placement() const { return training.placement(); }
  Grid grid() const { return {placement().ranks, data, expert}; }
  /// Of the run: pipeline × data × expert.
  int ranks() const { return grid().ranks(); }
  int stages() const { return placement().stages(); }
  int microbatches() const { return training.schedule().microbatches; }
  /// Of a step, over its rounds and columns: what gradients and losses are divided by.
  int losses() const { return rounds * microbatches() * grid().columns(); }
  bool has_exchanges() const;
};

/// The schedule that `parallel` names, without its communication. Errors (kInvalidInput): it cannot
/// be made, has no backward, keeps several copies of the model, or has other ranks or micro-batches
/// than `parallel`. Cost: O(actions).
Expected<Schedule> training_schedule(const ParallelConfig& parallel);

/// Of `parallel`: data, expert, pairs and braid. Errors: a schedule that cannot be proven or
/// lowered, a file of a braid. Cost: O(actions * ranks).
Expected<TrainPlan> make_train_plan(Schedule schedule, const ParallelConfig& parallel,
                                    StagesInfo stages, int rounds = 1);

/// The share of forwards that run in pairs, and how those pairs run.
std::string describe_pairs(const TrainPlan& plan);

/// "rounds: 4 of 8 micro-batches make a step, …"; empty if there is one.
std::string describe_rounds(const TrainPlan& plan);

/// "shard: gradients and optimiser state are cut over 2 replicas (ZeRO-2)"; empty for mode none.
std::string describe_shards(const TrainPlan& plan);

/// "UNSHARD and RESHARD: 16 instructions with nothing to do, parameters are held whole": actions of
/// the schedule that this run has no work for, a line each. Empty if there are none.
std::string describe_nothing_to_do(const TrainPlan& plan);

}  // namespace plait
