#include "plait/train/run.h"

#include <optional>
#include <utility>

#include "plait/job/validate.h"
#include "plait/train/job_model.h"
#include "plait/train/trainer_group.h"

namespace plait {
namespace {

/// How long a run is.
struct RunLength {
  int steps = 0;
  int validate_every = 0;  ///< 0: at the end only
  bool validates = true;   ///< something is held out, and the caller asks for it
};

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

Expected<RunOutcome> run_group(TrainerGroup& group, const JobPlan& plan, const RunHooks& hooks) {
  const RunLength length{plan.job.run.steps, plan.job.run.validate_every,
                         hooks.validates && has_validation(plan.job.data)};
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

Expected<RunOutcome> run_in_process(const JobPlan& plan, const DataSplit& data,
                                    const RunHooks& hooks) {
  JobModel model = job_model(plan, data);
  PLAIT_TRY(const auto group, TrainerGroup::as_threads(job_setup(plan, model), hooks.link));
  return run_group(*group, plan, hooks);
}

Expected<RunOutcome> run_reference(const JobPlan& plan, const DataSplit& data,
                                   const RunHooks& hooks) {
  JobModel model = job_model(plan, data);
  PLAIT_TRY(const auto group, TrainerGroup::as_reference(job_setup(plan, model)));
  return run_group(*group, plan, hooks);
}

Expected<RunOutcome> run_as_process(const JobPlan& plan, const DataSplit& data,
                                    const C10dOptions& options, const RunHooks& hooks) {
  JobModel model = job_model(plan, data);
  PLAIT_TRY(const auto group, TrainerGroup::as_process(job_setup(plan, model), options));
  return run_group(*group, plan, hooks);
}

}  // namespace plait
