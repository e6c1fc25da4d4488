/// Trains a model of the caller's own under any schedule, with the trainer that trains jobs.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/job/job_config.h"
#include "plait/program/peak_memory.h"
#include "plait/record/step_report.h"
#include "plait/runtime/emulated_link.h"
#include "plait/sim/profile.h"
#include "plait/torch/c10d_world.h"
#include "plait/train/memory_plan.h"
#include "plait/train/model_source.h"
#include "plait/train/trainer.h"

namespace plait {

/// Of one micro-batch: a scalar.
using LossFunction = std::function<at::Tensor(const at::Tensor& output, const at::Tensor& target)>;

/// Which stage is to be made, and for whom.
struct StagePlace {
  int stage = 0;
  int column = 0;
  GroupPlace expert;  ///< in its expert group
};

/// A model as the caller has it.
struct OwnModel {
  /// The segments of a stage. Every column gets modules of its own, which must begin with the same
  /// numbers; a parameter of an expert says so (Parameter::holders). The first stage's first
  /// segment gets the micro-batch; what the last one returns first goes to `loss`. Called from the
  /// thread that makes the pipeline, for every stage at least once.
  std::function<StageSegments(const StagePlace&)> make_stage;
  LossFunction loss;
  /// The input of one micro-batch. It is run through the stages, without a backward, to find out
  /// what crosses the boundaries between them; every micro-batch must be like it. Processes need
  /// it; threads hand tensors over as they are, so it may be undefined.
  at::Tensor sample{};
  /// By stage, what its parts need at most; empty: not known.
  std::vector<std::vector<PartMemory>> memory{};
};

/// A step's micro-batches over all columns and rounds: that of column c is entry m * columns + c,
/// where m counts on from round to round. An evaluation takes those of one round. Where a
/// process does not hold the first (last) stage, its inputs (targets) are not read.
struct StepBatch {
  std::vector<at::Tensor> inputs, targets;
};

struct PipelineOptions {
  int ranks = 2;  ///< of the pipeline; the run has ranks * data * expert
  int microbatches = 8;
  std::string schedule = "dualpipe-v";  ///< a name of `plait list`, or a file
  int data = 1;                         ///< replicas
  int expert = 1;                       ///< ranks that share a layer's experts
  std::string pairs = "sequence";       ///< "braid", "sequence", "off"
  /// What replicas share out: "none", "optimizer", "gradients", "parameters" (docs/shard.md). All
  /// but "none" need `optimizer` and float32 parameters. What is cut is not whole between two
  /// steps: a parameter then has no memory under "parameters", its .grad none under both; save()
  /// and state() have them.
  std::string shard = "none";
  /// Last words ("mlp" of "2.mlp") of the names of segments that keep only their inputs and run
  /// again before their backward. A word that no segment has is an error.
  std::set<std::string> recompute{};
  int threads = 1;  ///< intra-op, of each rank
  double timeout_s = 60;
  double start_timeout_s = 300;
  /// AdamW of these settings, its learning rate for `steps` steps; none: the gradients are left for
  /// the caller's own optimiser.
  std::optional<OptimizerConfig> optimizer{};
  int steps = 0;
  /// Rounds of the schedule, each of `microbatches`, whose gradients add up to one step of the
  /// caller's own optimiser; with `optimizer`, its field of the same name counts.
  int accumulate = 1;
  /// Emulated between ranks that are threads; only there.
  EmulatedLink link{};
  /// One thread, unpipelined: the run to compare with (trainer.h).
  bool reference = false;
  /// Set: this process is one rank among others over Gloo (processes.h); of it rank, address, port
  /// and who hosts the store are read.
  std::optional<C10dOptions> process{};
};

/// Not thread-safe. A step that failed ends it: later ones return the same error.
class Pipeline {
 public:
  /// Errors (kInvalidInput): a schedule that cannot be made or proven, a stage without segments, a
  /// parameter that two stages hold or two names of which are the same, columns that begin with
  /// different numbers.
  static Expected<std::unique_ptr<Pipeline>> make(OwnModel model, const PipelineOptions& options);
  /// Of stages that are made already, for one column. Errors: also another number of stages than
  /// the schedule has.
  static Expected<std::unique_ptr<Pipeline>> make(std::vector<StageSegments> stages,
                                                  LossFunction loss,
                                                  const PipelineOptions& options);
  ~Pipeline();

  /// The mean of the losses is in `line`; the gradients of their mean are in the parameters' .grad
  /// afterwards. Every process calls it for every step. Errors: those of segments and of the loss,
  /// with their names.
  Expected<StepOutcome> step(StepBatch batch);
  /// The mean of the losses without a backward.
  Expected<double> evaluate(StepBatch batch);

  /// Of the stages of this process, in order of columns and names.
  std::vector<at::Tensor> parameters() const;
  std::vector<Parameter> named_parameters() const;
  /// Of each rank of this process, in ascending order. Written between two steps, it is what the
  /// next one starts from.
  std::vector<TrainState> state();
  /// Writes the parameters and buffers of all ranks as a safetensors file, on rank 0's machine.
  Expected<void> save(const std::string& path);

  /// Collects what steps cost: add() each one's timeline. Its settings() are for simulate and
  /// compare. Every message counts as the largest that crosses a boundary. Errors (kInvalidInput):
  /// stages that exchange rows, or several columns, for which a cost file has no place.
  Expected<CostProfile> cost_profile() const;

  /// What was proven, in a line.
  std::string summary() const;
  /// What each rank of the pipeline needs at most, in order; activations if OwnModel::memory says
  /// what the parts need. The batch is the caller's and not in it.
  const std::vector<RankMemory>& memory() const;
  /// The same as a table.
  std::string describe_memory() const;
  /// Of each rank of this process, in ascending order: what its tensors hold between steps.
  std::vector<Bytes> lasting_bytes() const;

 private:
  struct State;
  explicit Pipeline(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace plait
