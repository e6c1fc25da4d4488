/// Ranks as processes: who started us, and starting and watching them on this machine. Knows no
/// torch.
#pragma once

#include <sys/types.h>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"

namespace plait {

enum class Launcher : std::uint8_t { kLocal, kTorchrun, kMpi, kSlurm };

/// Where a process stands among all ranks.
struct RankPlace {
  Launcher launcher = Launcher::kLocal;
  int rank = -1;  ///< -1: the parent under kLocal, which starts the ranks
  int ranks = 0;
  int rank_on_machine =
      -1;  ///< among the ranks of its machine; `rank` if the launcher says nothing
  std::string master_address;
  int master_port = 0;
};

using Environment = std::map<std::string, std::string>;
Environment current_environment();

/// Finds out from the environment who started us: `wanted` ("local", "torchrun", "mpi", "slurm"),
/// or if that is empty torchrun, mpirun (Open MPI, size > 1), srun (inside a step, tasks > 1), else
/// local. Errors name the variable, what was found and what was needed; the number of ranks must be
/// `ranks`.
Expected<RankPlace> find_place(const Environment& environment, const std::string& wanted,
                               int ranks);

/// The children of one run on this machine. Rank 0 prints where the parent does; what the others
/// print goes nowhere until they open a log, their errors where the parent's go. Each rank is this
/// program again with the same arguments, in a process group of its own, so that a terminal's
/// Ctrl-C reaches only the parent; none outlives the parent.
class LocalRanks {
 public:
  struct Options {
    int ranks = 0;
    std::vector<std::string> arguments;  ///< of the program, without its name
    int master_port = 0;
    std::string
        log_folder;  ///< ranks above 0 write rank-<r>.log there once it exists; empty: to /dev/null
    double grace_s = 10;  ///< how long the others may take to end after the first has died
  };
  struct Outcome {
    int exit_code = 0;
    std::string message;  ///< empty if all ended well; names who died and who waited for what
  };

  static Expected<LocalRanks> start(const Options& options);
  LocalRanks(LocalRanks&&) noexcept = default;
  LocalRanks& operator=(LocalRanks&&) = delete;
  ~LocalRanks();

  /// Waits until all have ended; passes the first stop signal on. When a rank dies, the others get
  /// grace_s to end by themselves and are killed then.
  Outcome wait();
  /// Ends all at once; async-signal-safe.
  static void kill_all();

 private:
  LocalRanks() = default;
  struct Child {
    pid_t pid = -1;
    int pipe = -1;  ///< what the rank has to say when it fails
    int status = 0;
    bool ended = false;
    std::string words;
    bool stopped_by_us = false;  ///< it did not end by itself when another had
  };
  void pass_on_stop_signal();
  void reap();
  Outcome judge() const;

  Options options_;
  std::vector<Child> children_;
  int first_dead_ = -1;
  int stop_signal_ = 0;
};

/// In a rank started by LocalRanks: tells the parent in a line why it fails or what it waited for.
/// False if there is no such parent.
bool tell_parent(const std::string& words);

/// Names of the variables that LocalRanks gives its children.
inline constexpr const char* kRankVariable = "PLAIT_RANK";
inline constexpr const char* kRanksVariable = "PLAIT_RANKS";
inline constexpr const char* kPortVariable = "PLAIT_MASTER_PORT";
inline constexpr const char* kPipeVariable = "PLAIT_PARENT_PIPE";

}  // namespace plait
