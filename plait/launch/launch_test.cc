#include "plait/launch/launch.h"

#include <gtest/gtest.h>

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

TEST(FindPlace, OpenMpiOnOneMachineAndOnMany) {
  Environment environment = {{"OMPI_COMM_WORLD_RANK", "1"},
                             {"OMPI_COMM_WORLD_SIZE", "2"},
                             {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  const Expected<RankPlace> one = find_place(environment, "", 2);
  ASSERT_TRUE(one) << one.error().text();
  EXPECT_EQ(one->launcher, Launcher::kMpi);
  EXPECT_EQ(one->master_address, "127.0.0.1");
  environment["OMPI_COMM_WORLD_LOCAL_SIZE"] = "1";
  EXPECT_EQ(error_of(environment, "", 2),
            "MASTER_ADDR: is not set, needed the address of rank 0: mpirun -x MASTER_ADDR=…");
  environment["MASTER_ADDR"] = "node1";
  EXPECT_EQ(find_place(environment, "", 2)->master_address, "node1");
}

TEST(FindPlace, OneProcessUnderMpirunIsLocal) {
  EXPECT_EQ(
      find_place({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "1"}}, "", 4)->launcher,
      Launcher::kLocal);
}

TEST(FindPlace, SlurmTakesTheFirstHostOfTheStep) {
  for (const auto& [list, first] : {std::pair("node[03-05,7],x1", "node03"),
                                    std::pair("a1,b2", "a1"), std::pair("solo", "solo")}) {
    const Expected<RankPlace> place = find_place({{"SLURM_STEP_ID", "0"},
                                                  {"SLURM_NTASKS", "2"},
                                                  {"SLURM_PROCID", "1"},
                                                  {"SLURM_STEP_NODELIST", list}},
                                                 "", 2);
    ASSERT_TRUE(place);
    EXPECT_EQ(place->launcher, Launcher::kSlurm);
    EXPECT_EQ(place->master_address, first);
    EXPECT_EQ(place->master_port, 29500);
  }
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
  EXPECT_EQ(find_place(all, "mpi", 4)->launcher, Launcher::kMpi);
  EXPECT_EQ(find_place(all, "slurm", 4)->launcher, Launcher::kSlurm);
  EXPECT_EQ(find_place(all, "local", 4)->launcher, Launcher::kLocal);
  all.erase("RANK");
  EXPECT_EQ(find_place(all, "", 4)->launcher, Launcher::kMpi);
}

TEST(FindPlace, ErrorsNameTheVariableFoundAndNeeded) {
  Environment environment = kTorchrun;
  EXPECT_EQ(error_of(environment, "", 2),
            "parallel.pipeline: 4 processes were started, the job has 2 ranks");
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
