#include <fmt/core.h>

#include <charconv>

#include "plait/launch/launch.h"

extern char** environ;

namespace plait {
namespace {

class Variables {
 public:
  explicit Variables(const Environment& environment) : environment_(environment) {}

  bool has(const std::string& name) const { return environment_.contains(name); }
  std::string text(const std::string& name) const { return has(name) ? environment_.at(name) : ""; }
  Expected<int> number(const std::string& name, int least, int most) const {
    if (!has(name)) return fail(ErrorCode::kInvalidInput, "is not set, needed a number", name);
    const std::string& value = environment_.at(name);
    int number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || number < least ||
        number > most) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("is '{}', needed a number from {} to {}", value, least, most), name);
    }
    return number;
  }
  /// A number that decides whether a launcher is there; 0 if it is not set.
  int size_or_zero(const std::string& name) const { return number(name, 0, 1 << 20).value_or(0); }

 private:
  const Environment& environment_;
};

constexpr int kMaxRanks = 1 << 20;
constexpr int kDefaultPort = 29500;

struct Names {
  const char* rank;
  const char* ranks;
  const char* rank_on_machine;
};

Expected<RankPlace> from_variables(const Variables& variables, Launcher launcher, Names names,
                                   const std::string& address_if_none) {
  RankPlace place;
  place.launcher = launcher;
  PLAIT_TRY(place.ranks, variables.number(names.ranks, 1, kMaxRanks));
  PLAIT_TRY(place.rank, variables.number(names.rank, 0, place.ranks - 1));
  place.rank_on_machine = place.rank;
  if (variables.has(names.rank_on_machine)) {
    PLAIT_TRY(place.rank_on_machine, variables.number(names.rank_on_machine, 0, place.ranks - 1));
  }
  place.master_address =
      variables.has("MASTER_ADDR") ? variables.text("MASTER_ADDR") : address_if_none;
  place.master_port = kDefaultPort;
  if (variables.has("MASTER_PORT") || launcher == Launcher::kTorchrun) {
    PLAIT_TRY(place.master_port, variables.number("MASTER_PORT", 1, 65535));
  }
  return place;
}

/// "node[3-5,7],x" begins with node3.
std::string first_host(const std::string& list) {
  const std::size_t bracket = list.find('[');
  const std::size_t comma = list.find(',');
  if (bracket == std::string::npos || comma < bracket) return list.substr(0, comma);
  const std::size_t end = list.find_first_of("-,]", bracket);
  return list.substr(0, bracket) + list.substr(bracket + 1, end - bracket - 1);
}

Expected<RankPlace> place_of(const Variables& variables, Launcher launcher) {
  switch (launcher) {
    case Launcher::kTorchrun:
      if (!variables.has("MASTER_ADDR")) {
        return fail(ErrorCode::kInvalidInput, "is not set, needed the address of rank 0",
                    "MASTER_ADDR");
      }
      return from_variables(variables, launcher, {"RANK", "WORLD_SIZE", "LOCAL_RANK"}, "");
    case Launcher::kMpi: {
      const bool one_machine = variables.size_or_zero("OMPI_COMM_WORLD_LOCAL_SIZE") ==
                               variables.size_or_zero("OMPI_COMM_WORLD_SIZE");
      if (!one_machine && !variables.has("MASTER_ADDR")) {
        return fail(ErrorCode::kInvalidInput,
                    "is not set, needed the address of rank 0: mpirun -x MASTER_ADDR=…",
                    "MASTER_ADDR");
      }
      return from_variables(
          variables, launcher,
          {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
          "127.0.0.1");
    }
    case Launcher::kSlurm:
      return from_variables(variables, launcher, {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"},
                            first_host(variables.text("SLURM_STEP_NODELIST")));
    case Launcher::kLocal:
      break;
  }
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

Environment current_environment() {
  Environment environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::size_t equals = text.find('=');
    if (equals != std::string::npos) environment[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return environment;
}

Expected<RankPlace> find_place(const Environment& environment, const std::string& wanted,
                               int ranks) {
  const Variables variables(environment);
  Launcher launcher = Launcher::kLocal;
  if (wanted == "torchrun" ||
      (wanted.empty() && variables.has("RANK") && variables.has("WORLD_SIZE"))) {
    launcher = Launcher::kTorchrun;
  } else if (wanted == "mpi" ||
             (wanted.empty() && variables.size_or_zero("OMPI_COMM_WORLD_SIZE") > 1)) {
    launcher = Launcher::kMpi;
  } else if (wanted == "slurm" || (wanted.empty() && variables.has("SLURM_STEP_ID") &&
                                   variables.size_or_zero("SLURM_NTASKS") > 1)) {
    launcher = Launcher::kSlurm;
  } else if (!wanted.empty() && wanted != "local") {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("'{}' is not known, needed local, torchrun, mpi or slurm", wanted),
                "--launcher");
  }
  PLAIT_TRY(RankPlace place, place_of(variables, launcher));
  if (place.ranks != 0 && place.ranks != ranks) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} processes were started, the job has {} ranks", place.ranks, ranks),
                "parallel.pipeline");
  }
  place.ranks = ranks;
  return place;
}

}  // namespace plait
