/// Who started this process, and as which rank of how many. Knows no torch.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "plait/base/error.h"

namespace plait {

enum class Launcher : std::uint8_t { kLocal, kTorchrun, kOpenMpi, kMpich, kSlurm };

/// What a launcher tells its processes, by names of environment variables; "" where it has none.
struct LauncherInfo {
  Launcher launcher;
  const char* flag;   ///< of --launcher
  const char* title;  ///< in messages
  const char* rank;
  const char* ranks;
  const char* rank_on_machine;
  const char* ranks_on_machine;
  std::array<const char*, 2> run_ids;  ///< together they tell its runs on one machine apart
  const char* how_to_set;              ///< how a user gives all ranks MASTER_ADDR
};

/// In the order in which they are looked for. One that started a single process is passed over.
inline constexpr std::array<LauncherInfo, 4> kLaunchers = {{
    {Launcher::kTorchrun,
     "torchrun",
     "torchrun",
     "RANK",
     "WORLD_SIZE",
     "LOCAL_RANK",
     "LOCAL_WORLD_SIZE",
     {"TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"},
     "MASTER_ADDR=…"},
    {Launcher::kOpenMpi,
     "mpi",
     "Open MPI",
     "OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE",
     {"PMIX_NAMESPACE", ""},
     "mpirun -x MASTER_ADDR=…"},
    {Launcher::kMpich,
     "mpi",
     "MPICH or Intel MPI",
     "PMI_RANK",
     "PMI_SIZE",
     "MPI_LOCALRANKID",
     "MPI_LOCALNRANKS",
     {"", ""},
     "mpiexec -genv MASTER_ADDR …"},
    {Launcher::kSlurm,
     "slurm",
     "Slurm",
     "SLURM_PROCID",
     "SLURM_STEP_NUM_TASKS",
     "SLURM_LOCALID",
     "",
     {"SLURM_JOB_ID", "SLURM_STEP_ID"},
     "MASTER_ADDR=… srun"},
}};

/// "torchrun", "Open MPI", …; "plait" for kLocal.
const char* title_of(Launcher launcher);

/// Where a process stands among all ranks, and where they meet.
struct RankPlace {
  Launcher launcher = Launcher::kLocal;
  int rank = -1;  ///< -1: no launcher; the process that a user started
  int ranks = 0;
  /// Among the ranks of its machine; `rank` if the launcher says nothing.
  int rank_on_machine = -1;
  std::string master_address;
  int master_port = 0;
  /// Rank 0 opens the store at master_port. Not where torchrun's agent or our own parent has one.
  bool hosts_store = false;
  std::string run_id;  ///< tells this run from others at the same address; may be empty
};

using Environment = std::map<std::string, std::string>;
Environment current_environment();

/// Finds out from the environment who started this process. `wanted`: "local", "torchrun", "mpi" or
/// "slurm"; empty: the first launcher of the table that started more than one process, else local.
/// `ranks`: of the job. Errors (kInvalidInput) name the variable, what was found and what was
/// needed: another number of ranks than `ranks`, no or no valid rank, an address that is missing or
/// empty, variables of a launcher without their counterpart.
Expected<RankPlace> find_place(const Environment& environment, const std::string& wanted,
                               int ranks);

/// For a job whose ranks are threads of one process. Errors (kInvalidInput): a launcher started
/// several processes, each of which would run the whole job. `wanted` as above; "local" says that
/// this is meant.
Expected<void> check_alone(const Environment& environment, const std::string& wanted);

/// For `command`, which measures a whole job in one process. Errors (kInvalidInput): a launcher
/// started several processes, which would measure one another's load.
Expected<void> check_measures_alone(const Environment& environment, const std::string& command);

/// The first host of a Slurm list: "node[1-2,5]-ib[0,3-4]x,n7" begins with node1-ib0x.
std::string first_host(const std::string& list);

/// A port from 10000 to 29999, below those that Linux gives out, that depends on `run_id` alone.
int port_of(const std::string& run_id);

/// Names of the variables that LocalRanks gives its children.
inline constexpr const char* kRankVariable = "PLAIT_RANK";
inline constexpr const char* kRanksVariable = "PLAIT_RANKS";
inline constexpr const char* kPortVariable = "PLAIT_MASTER_PORT";
inline constexpr const char* kPipeVariable = "PLAIT_PARENT_PIPE";

}  // namespace plait
