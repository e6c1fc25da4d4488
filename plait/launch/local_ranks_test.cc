#include "plait/launch/local_ranks.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>

#include "plait/launch/signals.h"

namespace plait {
namespace {

/// Ranks that are shells: `script` runs in each, with its number in $PLAIT_RANK, `say` writes to
/// the parent and `met` tells it that the rank has met the others.
class LocalRanksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("plait_ranks_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Expected<LocalRanks> start(int ranks, const std::string& script,
                             std::function<void(const std::string&)> on_report = {}) const {
    LocalRanks::Options options;
    options.on_report = std::move(on_report);
    options.ranks = ranks;
    options.master_port = 1;
    options.grace_s = 600;  // a test that waits for it hangs
    options.program = "/bin/sh";
    const std::string tools = "cd " + folder_.string() +
                              "; say() { echo \"$1\" > /proc/self/fd/$PLAIT_PARENT_PIPE; }"
                              "; met() { printf '\\006' > /proc/self/fd/$PLAIT_PARENT_PIPE; }"
                              "; wait_for() { until [ -e $1 ]; do sleep 0.01; done; }; ";
    options.arguments = {"-c", tools + script};
    return LocalRanks::start(options);
  }
  LocalRanks::Outcome run(int ranks, const std::string& script) const {
    Expected<LocalRanks> started = start(ranks, script);
    EXPECT_TRUE(started);
    return started->wait();
  }

  std::filesystem::path folder_;
};

TEST_F(LocalRanksTest, AllWell) {
  const LocalRanks::Outcome outcome = run(3, "[ $PLAIT_RANKS = 3 ]");
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.message, "");
}

TEST_F(LocalRanksTest, AReportGoesFromTheFirstRankThatRunsToWhoAskedForIt) {
  const ReportSignal signal;
  std::string report;
  Expected<LocalRanks> ranks =
      start(2,
            "trap 'printf \"\\002rank $PLAIT_RANK reports\\003\" > "
            "/proc/self/fd/$PLAIT_PARENT_PIPE; touch done' USR1; met; touch ready.$PLAIT_RANK; "
            "wait_for ready.0; wait_for ready.1; "
            "if [ $PLAIT_RANK = 0 ]; then (sleep 0.2; kill -USR1 $PPID; wait_for done; "
            "kill -CONT $$) & kill -STOP $$; else wait_for done; fi",
            [&](const std::string& text) { report = text; });
  ASSERT_TRUE(ranks);
  const LocalRanks::Outcome outcome = ranks->wait();
  EXPECT_EQ(report, "rank 1 reports");
  EXPECT_EQ(outcome.message, "");
}

TEST_F(LocalRanksTest, ARankThatDiesBeforeTheyMetEndsTheOthersAtOnce) {
  const LocalRanks::Outcome outcome = run(3, "[ $PLAIT_RANK = 1 ] && kill -9 $$; exec sleep 1000");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.message, "rank 1 was killed by signal 9 (SIGKILL) before the ranks had met");
}

TEST_F(LocalRanksTest, WordsOfARankThatFailsBeforeTheyMetStandAlone) {
  const LocalRanks::Outcome outcome = run(2,
                                          "[ $PLAIT_RANK = 0 ] && { say 'text.txt: the data file "
                                          "is empty'; exit 2; }; exec sleep 1000");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.message, "text.txt: the data file is empty");
}

TEST_F(LocalRanksTest, ThoseThatHaveMetSayWhatTheyWaitedFor) {
  const LocalRanks::Outcome outcome = run(2,
                                          "met; touch $PLAIT_RANK; wait_for 0; wait_for 1;"
                                          "if [ $PLAIT_RANK = 1 ]; then kill -9 $$; fi;"
                                          "say 'rank 0 waited in 3RECV_F2 from rank 1'; exit 1");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.message,
            "rank 1 was killed by signal 9 (SIGKILL); rank 0 waited in 3RECV_F2 from rank 1");
}

/// What the ranks do when this process is asked to end while they run.
class StoppedRanksTest : public LocalRanksTest {
 protected:
  LocalRanks::Outcome stop(int signal, const std::string& script) const {
    const StopSignals signals(nullptr);
    StopSignals::defer();
    Expected<LocalRanks> started = start(2, script);
    EXPECT_TRUE(started);
    for (const char* ready : {"0", "1"}) {
      while (!std::filesystem::exists(folder_ / ready)) usleep(1000);
    }
    raise(signal);
    return started->wait();
  }
};

TEST_F(StoppedRanksTest, InTheirSetUpTheyDieOfTheSignal) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const LocalRanks::Outcome outcome = stop(signal, "touch $PLAIT_RANK; exec sleep 1000");
    EXPECT_EQ(outcome.exit_code, 128 + signal);
    EXPECT_EQ(outcome.message, stop_word(signal));
  }
}

TEST_F(StoppedRanksTest, AfterTheirStepTheySayWhatIsLeft) {
  const LocalRanks::Outcome outcome =
      stop(SIGINT,
           "met; trap 'say \"interrupted after step 3\"; exit 130' INT; touch $PLAIT_RANK;"
           "while true; do sleep 0.01; done");
  EXPECT_EQ(outcome.exit_code, 130);
  EXPECT_EQ(outcome.message, "interrupted after step 3");
}

TEST_F(StoppedRanksTest, WhenAllHadEndedTheCodeStillSaysIt) {
  const LocalRanks::Outcome outcome = stop(SIGINT, "trap '' INT; touch $PLAIT_RANK");
  EXPECT_EQ(outcome.exit_code, 130);
}

TEST_F(StoppedRanksTest, AFailureOfItsOwnIsNotHidden) {
  const LocalRanks::Outcome outcome = stop(
      SIGINT,
      "met; trap 'say \"the model cannot be written: disk full\"; exit 1' INT; touch $PLAIT_RANK;"
      "[ $PLAIT_RANK = 1 ] && trap 'exit 130' INT;"
      "while true; do sleep 0.01; done");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.message.find("the model cannot be written: disk full"), std::string::npos);
}

}  // namespace
}  // namespace plait
