#include "plait/train/trainer_group.h"

#include <c10/util/Exception.h>
#include <fmt/core.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "plait/base/check.h"
#include "plait/base/print.h"
#include "plait/launch/pin.h"
#include "plait/runtime/agree.h"

namespace plait {
namespace {

/// One place for what torch throws in a rank's thread outside of its step.
template <typename Work>
Expected<void> guarded(const Work& work) {
  try {
    return work();
  } catch (const c10::Error& error) {
    return fail(ErrorCode::kRuntime, std::string(first_line(error.what_without_backtrace())));
  }
}

Nanoseconds nanoseconds(double seconds) { return static_cast<Nanoseconds>(seconds * 1e9); }

/// torch makes as many threads as it is told, and the process dies where the system has no more.
Expected<void> check_threads(int threads) {
  constexpr int kForEachCore = 16;
  const int most =
      kForEachCore * std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (threads <= most) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("is {}, must be 1 to {}, {} for each core of this machine", threads, most,
                          kForEachCore),
              "run.threads");
}

}  // namespace

TrainerGroup::~TrainerGroup() = default;

Expected<void> TrainerGroup::add_thread_rank(int rank, const EmulatedLink& link) {
  Comm* comm = &threads_world_->comm(rank);
  if (link.is_given()) {
    delayed_.push_back(std::make_unique<DelayedComm>(*comm, link));
    comm = delayed_.back().get();
  }
  exchanges_.push_back(&threads_world_->exchange(rank));
  return guarded([&]() -> Expected<void> {
    PLAIT_TRY(std::unique_ptr<RankTrainer> trainer,
              make_pipeline_trainer(setup_, rank, *comm, *exchanges_.back()));
    trainers_.push_back(std::move(trainer));
    return {};
  });
}

TrainerGroup::Made TrainerGroup::as_threads(const TrainSetup& setup, const EmulatedLink& link) {
  PLAIT_TRY_VOID(check_threads(setup.settings.threads));
  if (setup.settings.gpu && link.is_given()) {
    return fail(ErrorCode::kNotBuilt, "device is cuda, this version emulates links on the CPU only",
                "--link-latency-us, --link-mb-per-s");
  }
  std::unique_ptr<TrainerGroup> group(new TrainerGroup(setup));
  group->threads_world_ = std::make_unique<InprocWorld>(setup.plan.grid());
  for (int rank = 0; rank < setup.plan.ranks(); ++rank)
    PLAIT_TRY_VOID(group->add_thread_rank(rank, link));
  group->start_watchdog();
  group->threads_ = std::make_unique<RankThreads>(setup.plan.ranks());
  if (!setup.settings.pin) return group;
  const auto pin = [&](int rank) { return pin_to_cores(rank, setup.settings.threads); };
  PLAIT_TRY_VOID(group->threads_->run(pin, [](const Error&) {}));
  return group;
}

TrainerGroup::Made TrainerGroup::as_process(const TrainSetup& setup, const C10dOptions& options) {
  PLAIT_TRY_VOID(check_threads(setup.settings.threads));
  PLAIT_CHECK(!setup.settings.gpu, "Gloo moves tensors of the CPU");
  // Before Gloo starts its threads.
  if (setup.settings.pin)
    PLAIT_TRY_VOID(pin_to_cores(options.rank_on_machine, setup.settings.threads));
  std::unique_ptr<TrainerGroup> group(new TrainerGroup(setup));
  PLAIT_TRY(group->process_world_, C10dWorld::connect(options));
  group->exchanges_.push_back(&group->process_world_->exchange());
  Exchange& exchange = *group->exchanges_.back();
  PLAIT_TRY_VOID(agree_on_job(exchange, setup.agreement));
  PLAIT_TRY_VOID(agree_on_programs(exchange, setup.plan.training_programs));
  PLAIT_TRY_VOID(agree_on_programs(exchange, setup.plan.validation_programs));
  PLAIT_TRY(std::unique_ptr<RankTrainer> trainer,
            make_pipeline_trainer(group->setup_, options.rank, group->process_world_->comm(),
                                  *group->exchanges_.back()));
  group->trainers_.push_back(std::move(trainer));
  group->start_watchdog();
  return group;
}

TrainerGroup::Made TrainerGroup::as_reference(const TrainSetup& setup) {
  PLAIT_TRY_VOID(check_threads(setup.settings.threads));
  std::unique_ptr<TrainerGroup> group(new TrainerGroup(setup));
  group->threads_world_ = std::make_unique<InprocWorld>(Grid{});
  group->exchanges_.push_back(&group->threads_world_->exchange(0));
  PLAIT_TRY(std::unique_ptr<RankTrainer> trainer,
            make_reference_trainer(group->setup_, *group->exchanges_.back()));
  group->trainers_.push_back(std::move(trainer));
  return group;
}

void TrainerGroup::start_watchdog() {
  std::vector<Executor*> executors;
  for (const auto& trainer : trainers_) {
    for (Executor* executor : trainer->executors()) executors.push_back(executor);
  }
  const TrainSettings& settings = setup_.settings;
  Watchdog::Options options;
  options.abort = [this](const Error& error) { abort(error); };
  options.grid = setup_.plan.grid();
  options.folder = settings.folder;
  options.report_wanted = settings.report_wanted;
  options.on_report = settings.on_report;
  if (process_world_) options.board = &process_world_->board();
  watchdog_ = std::make_unique<Watchdog>(executors, std::move(options));
  if (process_world_) process_world_->explain_timeouts([this] { return watchdog_->report(); });
  watchdog_->set_timeout(nanoseconds(setup_.settings.start_timeout_s));
  for (const auto& trainer : trainers_) trainer->set_watchdog(watchdog_.get());
}

void TrainerGroup::abort(const Error& error) {
  if (threads_world_) threads_world_->abort(error);
  if (process_world_) process_world_->abort(error);
}

Expected<void> TrainerGroup::run(const Work& work) {
  const auto one_rank = [&](int rank) {
    const auto i = static_cast<std::size_t>(rank);
    return guarded([&] { return work(*trainers_[i], *exchanges_[i]); });
  };
  if (threads_) return threads_->run(one_rank, [this](const Error& error) { abort(error); });
  Expected<void> result = one_rank(0);
  if (!result && process_world_) process_world_->abort(result.error());
  return result;
}

void TrainerGroup::end_start() {
  if (started_.exchange(true)) return;
  if (watchdog_) watchdog_->set_timeout(nanoseconds(setup_.settings.timeout_s));
  if (process_world_) process_world_->end_start();
}

}  // namespace plait
