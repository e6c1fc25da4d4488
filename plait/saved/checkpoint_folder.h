/// The checkpoints of a run as folders: checkpoints/step-<n>.
///
/// A checkpoint has its name when it is whole, and not before: its files are written to
/// checkpoints/.step-<n>.<mark>, each flushed to the disk, the manifest last; then the folder is
/// flushed, renamed, and the folder that holds the name flushed. What a run that was killed leaves
/// behind begins with a dot and is never read.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/saved/manifest.h"

namespace plait {

/// Of a run's folder.
inline constexpr std::string_view kCheckpoints = "checkpoints";
/// In a checkpoint: the job as it was resolved.
inline constexpr std::string_view kCheckpointJob = "job.toml";

/// One that is being written. `mark` keeps it apart from what earlier runs have left.
struct UnfinishedCheckpoint {
  std::string run;  ///< folder of the run
  std::string mark;
  int step = 0;

  std::string path() const;
};

/// Makes the folder, and those that hold it; it may be there.
Expected<void> make_unfinished(const UnfinishedCheckpoint& one);
/// Gives it its name, when all of its files are there and flushed. One of that name, which a later
/// run does again, is replaced. Errors (kIo): what cannot be done, and why.
Expected<void> finish_checkpoint(const UnfinishedCheckpoint& one);
void remove_unfinished(const UnfinishedCheckpoint& one);
/// Those that runs have left which were killed. Only while the run's folder is locked.
void remove_all_unfinished(const std::string& run);

/// Which checkpoints stay when `step` is the newest: the newest `keep_last`, and those of a
/// multiple of `keep_every` steps (0: none of those). Later ones, of a run that this one goes back
/// behind, are left alone.
struct Keeping {
  int last = 1;
  int every = 0;
};
/// Steps of `steps` that go, ascending.
std::vector<int> steps_to_remove(std::vector<int> steps, int step, const Keeping& keeping);
/// Removes them; none is seen half removed.
void prune_checkpoints(const std::string& run, int step, const Keeping& keeping);

/// Steps of the run's checkpoints, ascending, whole or not.
std::vector<int> checkpoint_steps(const std::string& run);
std::string checkpoint_path(const std::string& run, int step);

struct FoundCheckpoint {
  std::string folder;
  Manifest manifest;
  std::vector<Error> passed_over;  ///< newer ones that are damaged: file, what was found, needed
};

/// The newest checkpoint whose files are all there and undamaged, in the run's folder `folder`; or
/// `folder` itself, if it is a checkpoint. Errors (kInvalidInput): there is none; it, or each of
/// them, is damaged, all named. Cost: reads every file of those that it looks at.
Expected<FoundCheckpoint> find_checkpoint(const std::string& folder);

}  // namespace plait
