/// A whole run: steps, validations, the model at the end.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "plait/runtime/emulated_link.h"
#include "plait/saved/tensor_sink.h"
#include "plait/torch/c10d_world.h"
#include "plait/train/checkpoint_saver.h"
#include "plait/train/checkpoint_state.h"
#include "plait/train/train_setup.h"
#include "plait/train/trainer.h"

namespace plait {

/// What the caller wants to be told; only rank 0 calls unless said otherwise, from its thread. An
/// error ends the run.
struct RunHooks {
  std::function<int()> stop_signal;          ///< of this process; 0: go on. Every rank asks
  std::function<Expected<void>()> on_begin;  ///< all ranks are there, nothing has run
  std::function<Expected<void>()> on_begun;  ///< on every rank, when on_begin has returned
  std::function<Expected<void>(const StepOutcome&)> on_step;
  std::function<Expected<void>(const ValidationLine&)> on_validation;
  std::function<Expected<void>()> on_trained;  ///< all steps are done, the sinks have nothing yet
  /// Where the model at the end goes, and the last step's gradients. Set on all ranks or on none.
  std::function<std::unique_ptr<TensorSink>()> gradient_sink, model_sink;
  std::function<Expected<void>()> on_end;  ///< the sinks have what they get
  bool validates = true;                   ///< as the run's length says; false: never
  EmulatedLink link;                       ///< between ranks that are threads
  /// The state that the run goes on from, and keys of it that it does not take; null: none. Filled
  /// before on_begin.
  const SavedState* resume = nullptr;
  std::set<std::string> own_state;
  CheckpointOptions checkpoints;  ///< their folder is there when on_begin has returned
};

/// How long a run is, and what it validates.
struct RunLength {
  int steps = 0;
  int validate_every = 0;  ///< steps; 0: at the end only
  bool validates = false;  ///< something is held out
};

struct RunOutcome {
  int steps_done = 0;
  int stop_signal = 0;  ///< the signal that ended the run early, 0 if none did
};

/// All ranks as threads of this process.
Expected<RunOutcome> run_in_process(const TrainSetup& setup, const RunLength& length,
                                    const RunHooks& hooks);

/// The reference (trainer.h), in the calling thread.
Expected<RunOutcome> run_reference(const TrainSetup& setup, const RunLength& length,
                                   const RunHooks& hooks);

/// One rank as this process over c10d's Gloo. After an error leave the process with _exit: waits of
/// Gloo cannot be called back.
Expected<RunOutcome> run_as_process(const TrainSetup& setup, const RunLength& length,
                                    const C10dOptions& options, const RunHooks& hooks);

}  // namespace plait
