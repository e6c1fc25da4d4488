/// One rank's training: batch, step, gradients, optimiser; over the runtime, or as the reference,
/// which runs the whole model in one process without it.
#pragma once

#include <memory>
#include <vector>

#include "plait/base/error.h"
#include "plait/record/step_report.h"
#include "plait/runtime/comm.h"
#include "plait/runtime/watchdog.h"
#include "plait/saved/tensor_sink.h"
#include "plait/torch/memory.h"
#include "plait/train/train_setup.h"
#include "plait/train/train_state.h"

namespace plait {

/// What a run writes at its end.
enum class Saved : std::uint8_t {
  kModel,      ///< parameters and buffers
  kGradients,  ///< of the last step, divided by M, not clipped
};

/// All ranks make the same calls in the same order, each from a thread of its own.
class RankTrainer {
 public:
  virtual ~RankTrainer() = default;

  /// The next step. `stop_signal`: not 0 if this rank was asked to stop.
  /// Errors name step and micro-batch, or rank, action and peer.
  virtual Expected<StepOutcome> step(int stop_signal) = 0;
  virtual int steps_done() const = 0;
  /// Scores what is held out once. Errors as step().
  virtual Expected<ValidationLine> validate() = 0;
  /// Tensors of all ranks, in order of names, into rank 0's `sink`; null elsewhere. No rank needs
  /// more room than a piece of one tensor (model_stream.h). Errors: the sink's, on rank 0.
  virtual Expected<void> stream(Saved what, TensorSink* sink) = 0;
  /// This rank's slices. Written between two steps, they are what the next one starts from. On the
  /// CPU only: slices are memory of the host.
  virtual TrainState state() = 0;
  /// Compares what columns that hold the same parameters have begun with, if the settings say so.
  /// Errors (kInvalidInput): the first that differs, and the columns.
  virtual Expected<void> check_copies() = 0;

  /// Of its stages, in order of columns and names.
  virtual std::vector<Parameter> parameters() = 0;
  /// Parameters, gradients and optimiser.
  virtual MemoryAccount& lasting() = 0;
  /// What comes from other ranks, and the batch.
  virtual MemoryAccount& received() = 0;
  /// For the watchdog; none in the reference.
  virtual std::vector<Executor*> executors() = 0;
  virtual void set_watchdog(Watchdog* watchdog) = 0;
};

/// `setup` must outlive the trainer. Errors: those of the model's source.
Expected<std::unique_ptr<RankTrainer>> make_pipeline_trainer(const TrainSetup& setup, int rank,
                                                             Comm& comm, Exchange& exchange);

/// One process, unpipelined: the same segments and boundaries, micro-batches ascending, whole
/// backwards. Columns of data and expert run side by side, so that experts see the rows that they
/// see in the run, in its order. `exchange` has one rank.
Expected<std::unique_ptr<RankTrainer>> make_reference_trainer(const TrainSetup& setup,
                                                              Exchange& exchange);

}  // namespace plait
