#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "plait/launch/launch.h"

extern char** environ;

namespace plait {
namespace {

constexpr int kMaxRanks = 1 << 20;
constexpr int kDefaultPort = 29500;
/// Steps that Slurm numbers from here on are no `srun`: the shell of an salloc (4294967290), a
/// batch script (4294967291) and the like. They keep the number of tasks of the whole job.
constexpr std::int64_t kFirstSpecialStep = 0xfffffff0;

class Variables {
 public:
  explicit Variables(const Environment& environment) : environment_(environment) {}

  bool has(const std::string& name) const { return environment_.contains(name); }
  std::string text(const std::string& name) const { return has(name) ? environment_.at(name) : ""; }
  /// "RANK is '3', WORLD_SIZE is not set".
  std::string shown(const std::string& name) const {
    return has(name) ? fmt::format("{} is '{}'", name, text(name)) : name + " is not set";
  }
  std::optional<std::int64_t> parsed(const std::string& name) const {
    const std::string value = text(name);
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (value.empty() || error != std::errc() || end != value.data() + value.size()) return {};
    return number;
  }
  Expected<int> number(const std::string& name, int least, int most) const {
    if (!has(name)) return fail(ErrorCode::kInvalidInput, "is not set, needed a number", name);
    const std::optional<std::int64_t> number = parsed(name);
    if (number && *number >= least && *number <= most) return static_cast<int>(*number);
    return fail(ErrorCode::kInvalidInput,
                fmt::format("is '{}', needed a number from {} to {}", text(name), least, most),
                name);
  }

 private:
  const Environment& environment_;
};

std::string ranks_variable(const Variables& variables, const LauncherInfo& info) {
  // Of old versions of Slurm, and where a user sets it.
  if (info.launcher == Launcher::kSlurm && !variables.has(info.ranks)) return "SLURM_NTASKS";
  return info.ranks;
}

/// How many processes it says it has started; 0: it has not started this one.
std::int64_t processes_of(const Variables& variables, const LauncherInfo& info) {
  if (info.launcher == Launcher::kSlurm) {
    const std::optional<std::int64_t> step = variables.parsed("SLURM_STEP_ID");
    if (!step || *step >= kFirstSpecialStep) return 0;
  }
  const std::string name = ranks_variable(variables, info);
  if (const std::optional<std::int64_t> number = variables.parsed(name)) return *number;
  // WORLD_SIZE=two beside RANK=0: a launcher is meant, and place_under() refuses its number.
  constexpr std::int64_t kUnreadable = 2;
  return !variables.text(name).empty() && variables.has(info.rank) ? kUnreadable : 0;
}

const LauncherInfo& info_of(Launcher launcher) {
  for (const LauncherInfo& info : kLaunchers) {
    if (info.launcher == launcher) return info;
  }
  return kLaunchers.front();  // not reached: kLocal has no row
}

/// `srun --mpi=pmi2` sets MPICH's variables beside its own; mpiexec inside an allocation starts its
/// own helpers by srun, whose numbers then differ.
bool is_srun_with_pmi(const Variables& variables) {
  const LauncherInfo& mpich = info_of(Launcher::kMpich);
  const LauncherInfo& slurm = info_of(Launcher::kSlurm);
  return processes_of(variables, slurm) == processes_of(variables, mpich) &&
         variables.parsed(slurm.rank) == variables.parsed(mpich.rank);
}

/// A launcher that says half of what is needed, or that we cannot read: kept apart from none, for
/// its processes would each run the whole job.
Expected<void> check_halves(const Variables& variables) {
  const auto half = [&](const char* found, const char* missing) -> Expected<void> {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("is not set, needed beside {}; or --launcher local, for a whole job in "
                            "this process",
                            variables.shown(found)),
                missing);
  };
  if (variables.parsed("WORLD_SIZE").value_or(0) > 1 && !variables.has("RANK"))
    return half("WORLD_SIZE", "RANK");
  if (variables.has("RANK") && variables.has("MASTER_ADDR") && !variables.has("WORLD_SIZE"))
    return half("RANK", "WORLD_SIZE");
  if (variables.parsed("PMI_SIZE").value_or(0) > 1 && !variables.has("PMI_RANK"))
    return half("PMI_SIZE", "PMI_RANK");
  if (variables.has("PMI_RANK") && !variables.has("PMI_SIZE")) return half("PMI_RANK", "PMI_SIZE");
  bool counted = variables.has("SLURM_STEP_ID");
  for (const LauncherInfo& info : kLaunchers) counted |= processes_of(variables, info) > 0;
  if (variables.has("PMIX_RANK") && !counted) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("is '{}', but nothing says of how many; give every process RANK, "
                            "WORLD_SIZE, MASTER_ADDR and MASTER_PORT, or --launcher local",
                            variables.text("PMIX_RANK")),
                "PMIX_RANK");
  }
  return {};
}

Expected<Launcher> find_launcher(const Variables& variables, const std::string& wanted) {
  if (wanted == "local") return Launcher::kLocal;
  if (wanted.empty() && variables.has(kRankVariable)) return Launcher::kLocal;
  bool known = wanted.empty();
  std::optional<Launcher> first;
  for (const LauncherInfo& info : kLaunchers) {
    if (!wanted.empty() && wanted != info.flag) continue;
    known = true;
    if (!first) first = info.launcher;
    if (processes_of(variables, info) <= 1) continue;
    if (info.launcher == Launcher::kTorchrun && !variables.has(info.rank)) continue;
    if (info.launcher == Launcher::kMpich && !variables.has(info.rank)) continue;
    if (info.launcher == Launcher::kMpich && wanted.empty() && is_srun_with_pmi(variables))
      continue;
    return info.launcher;
  }
  if (!known) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("'{}' is not known, needed local, torchrun, mpi or slurm", wanted),
                "--launcher");
  }
  if (!wanted.empty()) return *first;
  PLAIT_TRY_VOID(check_halves(variables));
  return Launcher::kLocal;
}

/// True if all ranks are known to be on this machine.
bool on_one_machine(const Variables& variables, const LauncherInfo& info, int ranks) {
  if (info.launcher == Launcher::kSlurm) return variables.parsed("SLURM_STEP_NUM_NODES") == 1;
  return info.launcher != Launcher::kTorchrun && variables.parsed(info.ranks_on_machine) == ranks;
}

Expected<std::string> master_address(const Variables& variables, const LauncherInfo& info,
                                     int ranks) {
  if (variables.has("MASTER_ADDR")) {
    if (!variables.text("MASTER_ADDR").empty()) return variables.text("MASTER_ADDR");
    return fail(ErrorCode::kInvalidInput,
                fmt::format("is empty, needed the address of rank 0's machine, or none where {} "
                            "says where it is",
                            info.title),
                "MASTER_ADDR");
  }
  if (on_one_machine(variables, info, ranks)) return "127.0.0.1";
  if (info.launcher == Launcher::kSlurm) {
    std::string host = first_host(variables.text("SLURM_STEP_NODELIST"));
    if (!host.empty()) return host;
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{}, needed the hosts of the step, or MASTER_ADDR",
                            variables.has("SLURM_STEP_NODELIST") ? "is empty" : "is not set"),
                "SLURM_STEP_NODELIST");
  }
  std::string why;
  if (info.launcher != Launcher::kTorchrun)
    why = fmt::format(" ({}, {}: not known to be one machine)", variables.shown(info.ranks),
                      variables.shown(info.ranks_on_machine));
  return fail(
      ErrorCode::kInvalidInput,
      fmt::format("is not set, needed the address of rank 0's machine: {}{}", info.how_to_set, why),
      "MASTER_ADDR");
}

std::string run_id(const Variables& variables, const LauncherInfo& info) {
  std::string id;
  for (const char* name : info.run_ids) {
    if (variables.has(name)) id += (id.empty() ? "" : ".") + variables.text(name);
  }
  return id;
}

Expected<RankPlace> place_under(const Variables& variables, const LauncherInfo& info) {
  RankPlace place;
  place.launcher = info.launcher;
  PLAIT_TRY(place.ranks, variables.number(ranks_variable(variables, info), 1, kMaxRanks));
  PLAIT_TRY(place.rank, variables.number(info.rank, 0, place.ranks - 1));
  place.rank_on_machine = place.rank;
  if (variables.has(info.rank_on_machine)) {
    PLAIT_TRY(place.rank_on_machine, variables.number(info.rank_on_machine, 0, place.ranks - 1));
  }
  PLAIT_TRY(place.master_address, master_address(variables, info, place.ranks));
  place.run_id = run_id(variables, info);
  const bool torchrun = info.launcher == Launcher::kTorchrun;
  place.master_port = torchrun || place.run_id.empty() ? kDefaultPort : port_of(place.run_id);
  if (variables.has("MASTER_PORT") || torchrun) {
    PLAIT_TRY(place.master_port, variables.number("MASTER_PORT", 1, 65535));
  }
  const bool has_agent = torchrun && variables.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  place.hosts_store = place.rank == 0 && !has_agent;
  return place;
}

Expected<RankPlace> local_place(const Variables& variables) {
  RankPlace place;
  if (!variables.has(kRankVariable)) return place;
  PLAIT_TRY(place.ranks, variables.number(kRanksVariable, 1, kMaxRanks));
  PLAIT_TRY(place.rank, variables.number(kRankVariable, 0, place.ranks - 1));
  place.rank_on_machine = place.rank;
  PLAIT_TRY(place.master_port, variables.number(kPortVariable, 1, 65535));
  place.master_address = "127.0.0.1";
  return place;
}

}  // namespace

const char* title_of(Launcher launcher) {
  return launcher == Launcher::kLocal ? "plait" : info_of(launcher).title;
}

Environment current_environment() {
  Environment environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::size_t equals = text.find('=');
    if (equals != std::string::npos) environment[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return environment;
}

std::string first_host(const std::string& list) {
  std::string host;
  for (std::size_t i = 0; i < list.size() && list[i] != ','; ++i) {
    if (list[i] != '[') {
      host += list[i];
      continue;
    }
    const std::size_t close = std::min(list.find(']', i), list.size());
    const std::size_t end = std::min(list.find_first_of("-,]", i), close);
    host += list.substr(i + 1, end - i - 1);
    i = close;
  }
  return host;
}

int port_of(const std::string& run_id) {
  // FNV-1a: every rank computes the same, on any machine.
  std::uint32_t hash = 2166136261U;
  for (const char c : run_id) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return 10000 + static_cast<int>(hash % 20000);
}

Expected<RankPlace> find_place(const Environment& environment, const std::string& wanted,
                               int ranks) {
  const Variables variables(environment);
  PLAIT_TRY(const Launcher launcher, find_launcher(variables, wanted));
  if (launcher == Launcher::kLocal) {
    PLAIT_TRY(RankPlace place, local_place(variables));
    place.ranks = ranks;
    return place;
  }
  const LauncherInfo& info = info_of(launcher);
  PLAIT_TRY(RankPlace place, place_under(variables, info));
  if (place.ranks != ranks) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} processes were started ({}, {}), the job has {} ranks", place.ranks,
                            info.title, variables.shown(ranks_variable(variables, info)), ranks),
                "parallel.pipeline");
  }
  return place;
}

namespace {

/// "Open MPI started 2 processes (OMPI_COMM_WORLD_RANK is '0', OMPI_COMM_WORLD_SIZE is '2')";
/// empty: no launcher did.
Expected<std::string> started_processes(const Environment& environment, const std::string& wanted) {
  const Variables variables(environment);
  PLAIT_TRY(const Launcher launcher, find_launcher(variables, wanted));
  if (launcher == Launcher::kLocal) return std::string();
  const LauncherInfo& info = info_of(launcher);
  const std::string ranks = ranks_variable(variables, info);
  return fmt::format("{} started {} processes ({}, {})", info.title, variables.text(ranks),
                     variables.shown(info.rank), variables.shown(ranks));
}

}  // namespace

Expected<void> check_alone(const Environment& environment, const std::string& wanted) {
  PLAIT_TRY(const std::string started, started_processes(environment, wanted));
  if (started.empty()) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("is inproc, but {}, each of which would run the whole job; --comm gloo "
                          "makes each a rank, --launcher local runs whole jobs side by side",
                          started),
              "run.comm");
}

Expected<void> check_measures_alone(const Environment& environment, const std::string& command) {
  PLAIT_TRY(const std::string started, started_processes(environment, ""));
  if (started.empty()) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("{}, each of which would run the whole job beside the others; it starts "
                          "its ranks itself: run it once, without a launcher",
                          started),
              command);
}

}  // namespace plait
