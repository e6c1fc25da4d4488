/// One rank's training: batch, step, gradients, optimiser; over the runtime, or as the reference,
/// which runs the whole model in one process without it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/record/step_report.h"
#include "plait/runtime/comm.h"
#include "plait/runtime/watchdog.h"
#include "plait/torch/segment.h"
#include "plait/train/dataset.h"
#include "plait/train/plan.h"

namespace plait {

/// All ranks make the same calls in the same order, each from a thread of its own.
class RankTrainer {
 public:
  virtual ~RankTrainer() = default;

  /// Steps count from 0. `stop_signal`: not 0 if this rank was asked to stop.
  /// Errors name step and micro-batch, or rank, action and peer.
  virtual Expected<StepOutcome> step(int step, int stop_signal) = 0;
  /// Scores every whole window of the held-out part once. Errors as step().
  virtual Expected<ValidationLine> validate(int steps_done) = 0;
  /// All parameters, or their gradients of the last step (divided by M, not clipped), in order of
  /// names, on rank 0; nothing elsewhere.
  virtual Expected<std::vector<Parameter>> gather(bool gradients) = 0;
  /// For the watchdog; none in the reference.
  virtual std::vector<Executor*> executors() = 0;
  virtual void set_watchdog(Watchdog* watchdog) = 0;
};

/// `plan` and `data` must outlive the trainer. Errors: a folder in `model.init` that does not fit.
Expected<std::unique_ptr<RankTrainer>> make_pipeline_trainer(const JobPlan& plan,
                                                             const DataSplit& data, int rank,
                                                             Comm& comm, Exchange& exchange);

/// One process, unpipelined: the same segments and boundaries, micro-batches ascending, whole
/// backwards. Columns of data and expert run side by side, so that experts see the rows that they
/// see in the run, in its order. `exchange` has one rank.
Expected<std::unique_ptr<RankTrainer>> make_reference_trainer(const JobPlan& plan,
                                                              const DataSplit& data,
                                                              Exchange& exchange);

}  // namespace plait
