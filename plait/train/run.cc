#include "plait/train/run.h"

#include <fmt/core.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "plait/job/validate.h"
#include "plait/launch/pin.h"
#include "plait/runtime/agree.h"
#include "plait/runtime/driver.h"
#include "plait/runtime/inproc_comm.h"
#include "plait/runtime/watchdog.h"

namespace plait {
namespace {

Nanoseconds nanoseconds(double seconds) { return static_cast<Nanoseconds>(seconds * 1e9); }

Expected<void> validate(RankTrainer& trainer, int rank, int steps_done, const RunHooks& hooks) {
  PLAIT_TRY(const ValidationLine line, trainer.validate(steps_done));
  if (rank == 0 && hooks.on_validation) return hooks.on_validation(line);
  return {};
}

/// torch makes as many threads as it is told, and the process dies where the system has no more.
Expected<void> check_threads(const RunConfig& run) {
  constexpr int kForEachCore = 16;
  const int most =
      kForEachCore * std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (run.threads <= most) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("run.threads is {}, must be 1 to {}, {} for each core of this machine",
                          run.threads, most, kForEachCore),
              "run.threads");
}

/// One rank's share of a run. `exchange` is the trainer's. `on_first_step` is called when the first
/// step has ended.
Expected<RunOutcome> run_rank(RankTrainer& trainer, const JobPlan& plan, Exchange& exchange,
                              const RunHooks& hooks, const std::function<void()>& on_first_step) {
  RunOutcome outcome;
  const int rank = exchange.rank();
  if (rank == 0 && hooks.on_begin) PLAIT_TRY_VOID(hooks.on_begin());
  PLAIT_TRY_VOID(exchange.all_gather(""));
  if (hooks.on_begun) PLAIT_TRY_VOID(hooks.on_begun());
  const RunConfig& run = plan.job.run;
  const bool validates = hooks.validates && has_validation(plan.job.data);
  while (outcome.steps_done < run.steps && outcome.stop_signal == 0) {
    PLAIT_TRY(StepOutcome step,
              trainer.step(outcome.steps_done, hooks.stop_signal ? hooks.stop_signal() : 0));
    if (outcome.steps_done++ == 0) on_first_step();
    outcome.stop_signal = step.stop_signal;
    if (rank == 0 && hooks.on_step) PLAIT_TRY_VOID(hooks.on_step(step));
    const bool due =
        validates && run.validate_every > 0 && outcome.steps_done % run.validate_every == 0;
    if (due && outcome.steps_done < run.steps && outcome.stop_signal == 0) {
      PLAIT_TRY_VOID(validate(trainer, rank, outcome.steps_done, hooks));
    }
  }
  if (validates && outcome.stop_signal == 0)
    PLAIT_TRY_VOID(validate(trainer, rank, outcome.steps_done, hooks));
  PLAIT_TRY(const std::vector<Parameter> parameters, trainer.gather(false));
  std::vector<Parameter> gradients;
  if (hooks.gradients) {
    PLAIT_TRY(gradients, trainer.gather(true));
  }
  if (rank == 0 && hooks.on_end) PLAIT_TRY_VOID(hooks.on_end(parameters, gradients));
  return outcome;
}

}  // namespace

Expected<RunOutcome> run_in_process(const JobPlan& plan, const DataSplit& data, bool reference,
                                    const RunHooks& hooks) {
  PLAIT_TRY_VOID(check_threads(plan.job.run));
  InprocWorld world(reference ? Grid{} : plan.grid());
  if (reference) {
    PLAIT_TRY(const std::unique_ptr<RankTrainer> trainer,
              make_reference_trainer(plan, data, world.exchange(0)));
    return run_rank(*trainer, plan, world.exchange(0), hooks, [] {});
  }
  std::vector<std::unique_ptr<RankTrainer>> trainers;
  std::vector<std::unique_ptr<DelayedComm>> delayed;  // ends before what its thread may call
  std::vector<Executor*> executors;
  for (int rank = 0; rank < plan.ranks(); ++rank) {
    Comm* comm = &world.comm(rank);
    if (hooks.link.is_given()) {
      delayed.push_back(std::make_unique<DelayedComm>(*comm, hooks.link));
      comm = delayed.back().get();
    }
    PLAIT_TRY(std::unique_ptr<RankTrainer> trainer,
              make_pipeline_trainer(plan, data, rank, *comm, world.exchange(rank)));
    for (Executor* executor : trainer->executors()) executors.push_back(executor);
    trainers.push_back(std::move(trainer));
  }
  Watchdog watchdog(executors, [&](const Error& error) { world.abort(error); });
  watchdog.set_timeout(nanoseconds(plan.job.run.start_timeout_s));
  for (const auto& trainer : trainers) trainer->set_watchdog(&watchdog);
  RunOutcome outcome;
  const auto one_rank = [&](int rank) -> Expected<void> {
    if (plan.job.run.pin) PLAIT_TRY_VOID(pin_to_cores(rank, plan.job.run.threads));
    const auto on_first_step = [&] {
      if (rank == 0) watchdog.set_timeout(nanoseconds(plan.job.run.timeout_s));
    };
    PLAIT_TRY(const RunOutcome mine, run_rank(*trainers[static_cast<std::size_t>(rank)], plan,
                                              world.exchange(rank), hooks, on_first_step));
    if (rank == 0) outcome = mine;
    return {};
  };
  PLAIT_TRY_VOID(
      run_ranks(plan.ranks(), one_rank, [&](const Error& error) { world.abort(error); }));
  return outcome;
}

Expected<RunOutcome> run_as_process(const JobPlan& plan, const DataSplit& data,
                                    const C10dOptions& options, const RunHooks& hooks) {
  PLAIT_TRY_VOID(check_threads(plan.job.run));
  // Before Gloo starts its threads.
  if (plan.job.run.pin) PLAIT_TRY_VOID(pin_to_cores(options.rank_on_machine, plan.job.run.threads));
  PLAIT_TRY(const std::unique_ptr<C10dWorld> world, C10dWorld::connect(options));
  PLAIT_TRY_VOID(agree_on_job(world->exchange(), print_job_config(plan.job)));
  PLAIT_TRY_VOID(agree_on_programs(world->exchange(), plan.training_programs));
  PLAIT_TRY_VOID(agree_on_programs(world->exchange(), plan.validation_programs));
  PLAIT_TRY(const std::unique_ptr<RankTrainer> trainer,
            make_pipeline_trainer(plan, data, options.rank, world->comm(), world->exchange()));
  Watchdog watchdog(trainer->executors(), [&](const Error& error) { world->abort(error); });
  watchdog.set_timeout(nanoseconds(plan.job.run.start_timeout_s));
  trainer->set_watchdog(&watchdog);
  Expected<RunOutcome> outcome = run_rank(*trainer, plan, world->exchange(), hooks, [&] {
    watchdog.set_timeout(nanoseconds(plan.job.run.timeout_s));
    world->end_start();
  });
  if (!outcome) world->abort(outcome.error());
  return outcome;
}

}  // namespace plait
