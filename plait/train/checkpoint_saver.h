/// Writes a run's checkpoints beside its steps.
///
///   step n ends   take(): every rank copies what it speaks for     (the step's own delay)
///                 start(): a thread of each rank writes its file while steps go on
///   in the end    rank 0's thread finds all files there, writes the manifest, names the folder
///
/// The ranks' threads meet on the disk: rank r's file is whole when rank-<r>.done stands beside it.
/// So a save needs no message between ranks, and all ranks must see one file system.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/runtime/comm.h"
#include "plait/saved/checkpoint_folder.h"
#include "plait/train/checkpoint_state.h"

namespace plait {

struct CheckpointOptions {
  int every = 0;  ///< steps; 0: none are written
  Keeping keeping;
  std::string run;  ///< the run's folder, which is there
  std::string job;  ///< the text of job.toml
  /// Told on rank 0, from its thread, of each checkpoint that could not be written; the run goes
  /// on.
  std::function<void(const Error&)> on_warning;
};

/// One rank's. All ranks make the same calls in the same order.
class CheckpointSaver {
 public:
  /// `options` outlives it. Rank 0 removes what earlier runs have left unfinished. Errors: a
  /// peer's.
  static Expected<std::unique_ptr<CheckpointSaver>> begin(const CheckpointOptions& options,
                                                          Exchange& exchange);
  /// Leaves behind what is not finished.
  ~CheckpointSaver();

  /// When step `step` has ended: waits for the save before, then copies. Errors: a peer's.
  Expected<void> take(const TrainState& state, int step);
  /// Begins to write what was taken.
  void start();
  /// Waits until the last save is on the disk or has failed, on all ranks. Errors: a peer's.
  Expected<void> finish();

 private:
  CheckpointSaver(const CheckpointOptions& options, Exchange& exchange)
      : options_(options), exchange_(exchange) {}
  bool first() const { return exchange_.rank() == 0; }
  void write_own() const;
  /// On rank 0: when every rank has said how its file went.
  Expected<void> conclude();
  Expected<bool> read_done(Manifest& manifest) const;

  const CheckpointOptions& options_;
  Exchange& exchange_;
  std::string mark_;
  StateSnapshot snapshot_;
  UnfinishedCheckpoint current_;
  std::thread thread_;
  std::atomic<bool> ended_ = true;          // the thread's work
  std::atomic<bool> others_ended_ = false;  // no other rank writes any more
  std::atomic<bool> abandoned_ = false;
  Expected<void> result_;  // of the thread, read when it has ended
};

}  // namespace plait
