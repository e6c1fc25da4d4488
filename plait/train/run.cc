#include "plait/train/run.h"

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

/// One rank's share of a run.
Expected<RunOutcome> run_rank(TrainerGroup& group, RankTrainer& trainer, Exchange& exchange,
                              const RunLength& length, const RunHooks& hooks) {
  RunOutcome outcome;
  const bool first = exchange.rank() == 0;
  if (first && hooks.on_begin) PLAIT_TRY_VOID(hooks.on_begin());
  PLAIT_TRY_VOID(exchange.all_gather(""));
  if (hooks.on_begun) PLAIT_TRY_VOID(hooks.on_begun());
  while (trainer.steps_done() < length.steps && outcome.stop_signal == 0) {
    PLAIT_TRY(const StepOutcome step, trainer.step(hooks.stop_signal ? hooks.stop_signal() : 0));
    group.end_start();
    outcome.stop_signal = step.stop_signal;
    if (first && hooks.on_step) PLAIT_TRY_VOID(hooks.on_step(step));
    const bool due = length.validates && length.validate_every > 0 &&
                     trainer.steps_done() % length.validate_every == 0;
    if (due && trainer.steps_done() < length.steps && outcome.stop_signal == 0)
      PLAIT_TRY_VOID(validate(trainer, first, hooks));
  }
  if (length.validates && outcome.stop_signal == 0) PLAIT_TRY_VOID(validate(trainer, first, hooks));
  outcome.steps_done = trainer.steps_done();
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
