#include "plait/launch/launch.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>

namespace plait {
namespace {

std::string error_of(const Environment& environment, const std::string& wanted, int ranks) {
  const Expected<RankPlace> place = find_place(environment, wanted, ranks);
  return place ? "no error" : place.error().text();
}

const Environment kTorchrun = {{"RANK", "2"},
                               {"WORLD_SIZE", "4"},
                               {"LOCAL_RANK", "0"},
                               {"MASTER_ADDR", "10.0.0.1"},
                               {"MASTER_PORT", "29511"}};

TEST(FindPlace, LocalIsTheParentUntilItNamesARank) {
  EXPECT_EQ(find_place({}, "", 4)->rank, -1);
  const Expected<RankPlace> child =
      find_place({{"PLAIT_RANK", "3"}, {"PLAIT_RANKS", "4"}, {"PLAIT_MASTER_PORT", "77"}}, "", 4);
  ASSERT_TRUE(child);
  EXPECT_EQ(child->rank, 3);
  EXPECT_EQ(child->master_address, "127.0.0.1");
  EXPECT_EQ(child->master_port, 77);
}

TEST(FindPlace, Torchrun) {
  const Expected<RankPlace> place = find_place(kTorchrun, "", 4);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->launcher, Launcher::kTorchrun);
  EXPECT_EQ(place->rank, 2);
  EXPECT_EQ(place->rank_on_machine, 0);
  EXPECT_EQ(place->master_address, "10.0.0.1");
  EXPECT_EQ(place->master_port, 29511);
}

TEST(FindPlace, TorchrunsAgentHasAStoreAndRestartsDiffer) {
  Environment environment = kTorchrun;
  environment["RANK"] = "0";
  EXPECT_TRUE(find_place(environment, "", 4)->hosts_store);
  environment.insert({{"TORCHELASTIC_USE_AGENT_STORE", "True"},
                      {"TORCHELASTIC_RUN_ID", "none"},
                      {"TORCHELASTIC_RESTART_COUNT", "0"}});
  const Expected<RankPlace> first = find_place(environment, "", 4);
  EXPECT_FALSE(first->hosts_store);
  environment["TORCHELASTIC_RESTART_COUNT"] = "1";
  EXPECT_NE(find_place(environment, "", 4)->run_id, first->run_id);
}

/// As if process `rank` of `ranks` had been started by the launcher, all on one machine.
Environment started_by(const LauncherInfo& info, int rank, int ranks) {
  Environment environment = {{info.rank, std::to_string(rank)},
                             {info.ranks, std::to_string(ranks)},
                             {info.rank_on_machine, std::to_string(rank)}};
  if (*info.ranks_on_machine != '\0') environment[info.ranks_on_machine] = std::to_string(ranks);
  if (info.launcher == Launcher::kTorchrun) {
    environment.insert({{"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "29511"}});
  } else if (info.launcher == Launcher::kSlurm) {
    environment.insert(
        {{"SLURM_JOB_ID", "7"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_NODES", "1"}});
  }
  return environment;
}

TEST(FindPlace, EveryLauncherOfTheTable) {
  for (const LauncherInfo& info : kLaunchers) {
    SCOPED_TRACE(info.title);
    for (const std::string wanted : {"", info.flag}) {
      const Expected<RankPlace> place = find_place(started_by(info, 2, 3), wanted, 3);
      ASSERT_TRUE(place) << place.error().text();
      EXPECT_EQ(place->launcher, info.launcher);
      EXPECT_EQ(place->rank, 2);
      EXPECT_EQ(place->rank_on_machine, 2);
      EXPECT_EQ(place->master_address, "127.0.0.1");
      EXPECT_FALSE(place->hosts_store);
      EXPECT_TRUE(find_place(started_by(info, 0, 3), wanted, 3)->hosts_store);
    }
    EXPECT_EQ(error_of(started_by(info, 2, 3), "", 4),
              std::string("parallel.pipeline: 3 processes were started (") + info.title + ", " +
                  info.ranks + " is '3'), the job has 4 ranks");
  }
}

TEST(FindPlace, OneProcessIsLocalUnderEveryLauncher) {
  for (const LauncherInfo& info : kLaunchers) {
    SCOPED_TRACE(info.title);
    const Expected<RankPlace> place = find_place(started_by(info, 0, 1), "", 4);
    ASSERT_TRUE(place) << place.error().text();
    EXPECT_EQ(place->launcher, Launcher::kLocal);
    EXPECT_EQ(place->rank, -1);
  }
}

TEST(FindPlace, RanksThatAreThreadsRunAlone) {
  EXPECT_TRUE(check_alone({}, ""));
  for (const LauncherInfo& info : kLaunchers) {
    SCOPED_TRACE(info.title);
    EXPECT_TRUE(check_alone(started_by(info, 0, 1), ""));
    EXPECT_TRUE(check_alone(started_by(info, 1, 2), "local"));
    const Expected<void> many = check_alone(started_by(info, 1, 2), "");
    ASSERT_FALSE(many);
    EXPECT_EQ(many.error().code, ErrorCode::kInvalidInput);
    EXPECT_EQ(many.error().text(),
              std::string("run.comm: is inproc, but ") + info.title + " started 2 processes (" +
                  info.rank + " is '1', " + info.ranks +
                  " is '2'), each of which would run the whole job; --comm gloo makes each a rank, "
                  "--launcher local runs whole jobs side by side");
  }
}

TEST(FindPlace, WhatMeasuresAWholeJobRunsAlone) {
  EXPECT_TRUE(check_measures_alone({}, "profile"));
  for (const LauncherInfo& info : kLaunchers) {
    SCOPED_TRACE(info.title);
    EXPECT_TRUE(check_measures_alone(started_by(info, 0, 1), "profile"));
    const Expected<void> many = check_measures_alone(started_by(info, 1, 2), "profile");
    ASSERT_FALSE(many);
    EXPECT_EQ(many.error().code, ErrorCode::kInvalidInput);
    EXPECT_EQ(many.error().text(),
              std::string("profile: ") + info.title + " started 2 processes (" + info.rank +
                  " is '1', " + info.ranks +
                  " is '2'), each of which would run the whole job beside the others; it starts "
                  "its ranks itself: run it once, without a launcher");
  }
}

TEST(FindPlace, EveryLauncherIsInTheDocument) {
  std::ifstream file("docs/launch.md");
  std::string document((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto named = [&](const std::string& name) {
    return name.empty() || document.find('`' + name + '`') != std::string::npos;
  };
  for (const LauncherInfo& info : kLaunchers) {
    EXPECT_NE(document.find(info.title), std::string::npos) << info.title;
    for (const char* name : {info.flag, info.rank, info.ranks, info.rank_on_machine,
                             info.ranks_on_machine, info.run_ids[0], info.run_ids[1]}) {
      EXPECT_TRUE(named(name)) << name;
    }
  }
}

TEST(FindPlace, MpiOnManyMachinesNeedsAnAddress) {
  for (const LauncherInfo& info : kLaunchers) {
    if (std::string(info.flag) != "mpi") continue;
    Environment environment = started_by(info, 1, 2);
    environment[info.ranks_on_machine] = "1";
    EXPECT_EQ(error_of(environment, "", 2),
              std::string("MASTER_ADDR: is not set, needed the address of rank 0's machine: ") +
                  info.how_to_set + " (" + info.ranks + " is '2', " + info.ranks_on_machine +
                  " is '1': not known to be one machine)");
    environment["MASTER_ADDR"] = "node1";
    EXPECT_EQ(find_place(environment, "", 2)->master_address, "node1");
  }
}

TEST(FindPlace, AnEmptyAddressIsAnErrorUnderEveryLauncher) {
  for (const LauncherInfo& info : kLaunchers) {
    Environment environment = started_by(info, 1, 2);
    environment["MASTER_ADDR"] = "";
    EXPECT_EQ(error_of(environment, "", 2).substr(0, 22), "MASTER_ADDR: is empty,") << info.title;
  }
}

TEST(FindPlace, HalfOfALaunchersVariablesIsAnError) {
  const auto missing = [](const char* name, const char* found) {
    return std::string(name) + ": is not set, needed beside " + found +
           "; or --launcher local, for a whole job in this process";
  };
  EXPECT_EQ(error_of({{"WORLD_SIZE", "2"}}, "", 2), missing("RANK", "WORLD_SIZE is '2'"));
  EXPECT_EQ(error_of({{"RANK", "0"}, {"MASTER_ADDR", "n"}}, "", 2),
            missing("WORLD_SIZE", "RANK is '0'"));
  EXPECT_EQ(error_of({{"PMI_RANK", "1"}}, "", 2), missing("PMI_SIZE", "PMI_RANK is '1'"));
  EXPECT_EQ(error_of({{"PMI_SIZE", "2"}}, "", 2), missing("PMI_RANK", "PMI_SIZE is '2'"));
  EXPECT_EQ(error_of({{"PMIX_RANK", "1"}}, "", 2),
            "PMIX_RANK: is '1', but nothing says of how many; give every process RANK, WORLD_SIZE, "
            "MASTER_ADDR and MASTER_PORT, or --launcher local");
  // Where one of the table says it all, halves of others do not matter.
  EXPECT_TRUE(find_place({{"PMIX_RANK", "0"},
                          {"OMPI_COMM_WORLD_RANK", "0"},
                          {"OMPI_COMM_WORLD_SIZE", "1"},
                          {"WORLD_SIZE", "1"}},
                         "", 2));
  EXPECT_TRUE(find_place({{"WORLD_SIZE", "2"}}, "local", 2));
}

Environment slurm(const std::string& hosts) {
  return {{"SLURM_STEP_ID", "0"},
          {"SLURM_NTASKS", "2"},
          {"SLURM_PROCID", "1"},
          {"SLURM_STEP_NODELIST", hosts}};
}

TEST(FindPlace, SlurmTakesTheFirstHostOfTheStep) {
  for (const auto& [list, first] :
       {std::pair("node[03-05,7],x1", "node03"), std::pair("a1,b2", "a1"),
        std::pair("solo", "solo"), std::pair("node[1-2]-ib[0,3-4]x,other", "node1-ib0x"),
        std::pair("r[3]c[10-12].cluster", "r3c10.cluster"), std::pair("gpu[7,9]-a,b", "gpu7-a")}) {
    EXPECT_EQ(first_host(list), first);
    const Expected<RankPlace> place = find_place(slurm(list), "", 2);
    ASSERT_TRUE(place);
    EXPECT_EQ(place->launcher, Launcher::kSlurm);
    EXPECT_EQ(place->master_address, first);
  }
  EXPECT_EQ(error_of(slurm(""), "", 2),
            "SLURM_STEP_NODELIST: is empty, needed the hosts of the step, or MASTER_ADDR");
}

TEST(FindPlace, OneNodeOfSlurmMeetsOnLoopback) {
  Environment environment = slurm("a-name-that-need-not-resolve");
  environment["SLURM_STEP_NUM_NODES"] = "1";
  EXPECT_EQ(find_place(environment, "", 2)->master_address, "127.0.0.1");
  environment["MASTER_ADDR"] = "10.0.0.9";
  EXPECT_EQ(find_place(environment, "", 2)->master_address, "10.0.0.9");
}

TEST(FindPlace, ShellsInsideAnAllocationAreNoStep) {
  for (const char* step : {"4294967290", "4294967291", "4294967292"}) {
    Environment environment = slurm("localhost");
    environment["SLURM_STEP_ID"] = step;
    environment["PMIX_RANK"] = "0";
    EXPECT_EQ(find_place(environment, "", 2)->launcher, Launcher::kLocal) << step;
  }
  // A step of one task keeps SLURM_NTASKS of the job in old versions.
  Environment one = slurm("localhost");
  one["SLURM_STEP_NUM_TASKS"] = "1";
  EXPECT_EQ(find_place(one, "", 2)->launcher, Launcher::kLocal);
}

TEST(FindPlace, JobsAndStepsOfSlurmHavePortsOfTheirOwn) {
  std::set<int> ports;
  Environment environment = slurm("localhost");
  for (const char* job : {"41", "42"}) {
    for (const char* step : {"0", "1"}) {
      environment["SLURM_JOB_ID"] = job;
      environment["SLURM_STEP_ID"] = step;
      const int port = find_place(environment, "", 2)->master_port;
      EXPECT_GE(port, 10000);
      EXPECT_LT(port, 30000);
      ports.insert(port);
    }
  }
  EXPECT_EQ(ports.size(), 4U);
  environment["MASTER_PORT"] = "29600";
  EXPECT_EQ(find_place(environment, "", 2)->master_port, 29600);
}

TEST(FindPlace, SrunWithPmiIsSlurmAndMpiexecInAnAllocationIsMpich) {
  const LauncherInfo& mpich = kLaunchers[2];
  Environment environment = slurm("localhost");
  environment.insert({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}});
  EXPECT_EQ(find_place(environment, "", 2)->launcher, Launcher::kSlurm);
  // One helper a node, started by srun, starts two processes each.
  environment = started_by(mpich, 3, 4);
  environment.insert(
      {{"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_PROCID", "1"}});
  EXPECT_EQ(find_place(environment, "", 4)->launcher, Launcher::kMpich);
}

TEST(FindPlace, TorchrunComesBeforeMpiBeforeSlurm) {
  Environment all = kTorchrun;
  all.insert({{"OMPI_COMM_WORLD_RANK", "1"},
              {"OMPI_COMM_WORLD_SIZE", "4"},
              {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
              {"SLURM_STEP_ID", "0"},
              {"SLURM_NTASKS", "4"},
              {"SLURM_PROCID", "0"},
              {"SLURM_STEP_NODELIST", "n"}});
  EXPECT_EQ(find_place(all, "", 4)->launcher, Launcher::kTorchrun);
  EXPECT_EQ(find_place(all, "mpi", 4)->launcher, Launcher::kOpenMpi);
  EXPECT_EQ(find_place(all, "slurm", 4)->launcher, Launcher::kSlurm);
  EXPECT_EQ(find_place(all, "local", 4)->launcher, Launcher::kLocal);
  all.erase("RANK");
  EXPECT_EQ(find_place(all, "", 4)->launcher, Launcher::kOpenMpi);
}

TEST(FindPlace, ErrorsNameTheVariableFoundAndNeeded) {
  Environment environment = kTorchrun;
  EXPECT_EQ(
      error_of(environment, "", 2),
      "parallel.pipeline: 4 processes were started (torchrun, WORLD_SIZE is '4'), the job has 2 "
      "ranks");
  environment["RANK"] = "4";
  EXPECT_EQ(error_of(environment, "", 4), "RANK: is '4', needed a number from 0 to 3");
  environment["RANK"] = "1x";
  EXPECT_EQ(error_of(environment, "", 4), "RANK: is '1x', needed a number from 0 to 3");
  environment = kTorchrun;
  environment.erase("MASTER_PORT");
  EXPECT_EQ(error_of(environment, "", 4), "MASTER_PORT: is not set, needed a number");
  EXPECT_EQ(error_of({}, "mpi", 4), "OMPI_COMM_WORLD_SIZE: is not set, needed a number");
  EXPECT_EQ(error_of({}, "pbs", 4),
            "--launcher: 'pbs' is not known, needed local, torchrun, mpi or slurm");
}

}  // namespace
}  // namespace plait
