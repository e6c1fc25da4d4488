#include "plait/train/run.h"

#include <memory>
#include <optional>
#include <utility>

#include "plait/train/trainer_group.h"

namespace plait {
namespace {

Expected<void> validate(RankTrainer& trainer, bool first, const RunHooks& hooks) {
  PLAIT_TRY(const ValidationLine line, trainer.validate());
  if (first && hooks.on_validation) return hooks.on_validation(line);
  return {};
}

Expected<void> save(RankTrainer& trainer, bool first, Saved what,
                    const std::function<std::unique_ptr<TensorSink>()>& make_sink) {
  if (!make_sink) return {};
  const std::unique_ptr<TensorSink> sink = first ? make_sink() : nullptr;
  return trainer.stream(what, sink.get());
}

/// After a step that a checkpoint is due after: a multiple of `every`, and the run's last.
bool is_checkpoint_due(int step, const RunLength& length, const CheckpointOptions& checkpoints,
                       int stop_signal) {
  return checkpoints.every > 0 &&
         (step % checkpoints.every == 0 || step == length.steps || stop_signal != 0);
}

/// Between two steps of the run; behind its last one it always validates.
bool is_validation_due(int step, const RunLength& length, int stop_signal) {
  return length.validates && length.validate_every > 0 && step % length.validate_every == 0 &&
         step < length.steps && stop_signal == 0;
}

/// One rank's share of a run.
Expected<RunOutcome> run_rank(TrainerGroup& group, RankTrainer& trainer, Exchange& exchange,
                              const RunLength& length, const RunHooks& hooks) {
  RunOutcome outcome;
  const bool first = exchange.rank() == 0;
  if (hooks.resume != nullptr)
    PLAIT_TRY_VOID(load_state(trainer.state(), *hooks.resume, hooks.own_state, exchange));
  if (first && hooks.on_begin) PLAIT_TRY_VOID(hooks.on_begin());
  PLAIT_TRY_VOID(exchange.all_gather(""));
  if (hooks.on_begun) PLAIT_TRY_VOID(hooks.on_begun());
  std::unique_ptr<CheckpointSaver> saver;
  if (hooks.checkpoints.every > 0) {
    PLAIT_TRY(saver, CheckpointSaver::begin(hooks.checkpoints, exchange));
  }
  // Of the run before, the validation behind that step may be missing (metrics_until()).
  if (hooks.resume != nullptr && is_validation_due(trainer.steps_done(), length, 0))
    PLAIT_TRY_VOID(validate(trainer, first, hooks));
  while (trainer.steps_done() < length.steps && outcome.stop_signal == 0) {
    PLAIT_TRY(StepOutcome step, trainer.step(hooks.stop_signal ? hooks.stop_signal() : 0));
    group.end_start();
    outcome.stop_signal = step.stop_signal;
    const bool saves =
        is_checkpoint_due(trainer.steps_done(), length, hooks.checkpoints, outcome.stop_signal);
    if (saves) {
      const Nanoseconds begin = now();
      PLAIT_TRY_VOID(saver->take(trainer.state(), trainer.steps_done()));
      step.line.checkpoint_ns = now() - begin;
    }
    // The step's line is there before a checkpoint of the step has its name.
    if (first && hooks.on_step) PLAIT_TRY_VOID(hooks.on_step(step));
    if (saves) saver->start();
    if (is_validation_due(trainer.steps_done(), length, outcome.stop_signal))
      PLAIT_TRY_VOID(validate(trainer, first, hooks));
  }
  if (length.validates && outcome.stop_signal == 0) PLAIT_TRY_VOID(validate(trainer, first, hooks));
  outcome.steps_done = trainer.steps_done();
  if (saver) PLAIT_TRY_VOID(saver->finish());
  if (first && hooks.on_trained) PLAIT_TRY_VOID(hooks.on_trained());
  const Expected<void> gradients = save(trainer, first, Saved::kGradients, hooks.gradient_sink);
  if (!gradients && gradients.error().code != ErrorCode::kIo)
    return tl::unexpected<Error>(gradients.error());
  // Last: who follows the run takes the model for its end. Also behind gradients that could not be
  // written, so that the training is not lost.
  PLAIT_TRY_VOID(save(trainer, first, Saved::kModel, hooks.model_sink));
  if (!gradients) return tl::unexpected<Error>(gradients.error());
  if (first && hooks.on_end) PLAIT_TRY_VOID(hooks.on_end());
  return outcome;
}

Expected<RunOutcome> run_group(TrainerGroup& group, const RunLength& given, const RunHooks& hooks) {
  RunLength length = given;
  length.validates = length.validates && hooks.validates;
  RunOutcome outcome;
  const RankTrainer* reports = group.trainers().front().get();
  PLAIT_TRY_VOID(group.run([&](RankTrainer& trainer, Exchange& exchange) -> Expected<void> {
    PLAIT_TRY(const RunOutcome mine, run_rank(group, trainer, exchange, length, hooks));
    if (&trainer == reports) outcome = mine;
    return {};
  }));
  return outcome;
}

}  // namespace

Expected<RunOutcome> run_in_process(const TrainSetup& setup, const RunLength& length,
                                    const RunHooks& hooks) {
  PLAIT_TRY(const auto group, TrainerGroup::as_threads(setup, hooks.link));
  return run_group(*group, length, hooks);
}

Expected<RunOutcome> run_reference(const TrainSetup& setup, const RunLength& length,
                                   const RunHooks& hooks) {
  PLAIT_TRY(const auto group, TrainerGroup::as_reference(setup));
  return run_group(*group, length, hooks);
}

Expected<RunOutcome> run_as_process(const TrainSetup& setup, const RunLength& length,
                                    const C10dOptions& options, const RunHooks& hooks) {
  PLAIT_TRY(const auto group, TrainerGroup::as_process(setup, options));
  return run_group(*group, length, hooks);
}

}  // namespace plait
