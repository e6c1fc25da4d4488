/// The ranks of a run that live in this process: all of them as threads, one of several processes,
/// or the reference, which is one rank for all.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "plait/runtime/emulated_link.h"
#include "plait/runtime/inproc_comm.h"
#include "plait/runtime/rank_threads.h"
#include "plait/runtime/watchdog.h"
#include "plait/torch/c10d_world.h"
#include "plait/train/trainer.h"

namespace plait {

/// The one way to train, for a job and for a user's own modules. A group that has failed stays so:
/// its comms are aborted. Calls come from one thread.
class TrainerGroup {
 public:
  using Made = Expected<std::unique_ptr<TrainerGroup>>;
  /// `setup` is copied; what it refers to must outlive the group. Errors: those of the model's
  /// source.
  static Made as_threads(const TrainSetup& setup, const EmulatedLink& link = {});
  /// Blocks until all processes are there; compares setup.agreement and the programs. After an
  /// error leave the process with _exit: waits of Gloo cannot be called back.
  static Made as_process(const TrainSetup& setup, const C10dOptions& options);
  static Made as_reference(const TrainSetup& setup);
  ~TrainerGroup();

  /// One rank's work; `exchange` is that of its trainer.
  using Work = std::function<Expected<void>(RankTrainer& trainer, Exchange& exchange)>;
  /// Calls `work` for each rank of this process on its thread: the calling one, unless ranks are
  /// threads. When one fails the others end too. Errors: the first.
  Expected<void> run(const Work& work);
  /// Any rank says so after the first step: from now on timeouts are those of a step.
  void end_start();

  /// Of this process, in ascending order of ranks.
  const std::vector<std::unique_ptr<RankTrainer>>& trainers() const { return trainers_; }

 private:
  explicit TrainerGroup(const TrainSetup& setup) : setup_(setup) {}
  Expected<void> add_thread_rank(int rank, const EmulatedLink& link);
  void start_watchdog();
  void abort(const Error& error);

  TrainSetup setup_;
  // Each outlives those below it, whose threads call it.
  std::unique_ptr<InprocWorld> threads_world_;
  std::unique_ptr<C10dWorld> process_world_;
  std::vector<Exchange*> exchanges_;  // by trainer
  std::vector<std::unique_ptr<RankTrainer>> trainers_;
  std::vector<std::unique_ptr<DelayedComm>> delayed_;
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<RankThreads> threads_;
  std::atomic<bool> started_ = false;
};

}  // namespace plait
