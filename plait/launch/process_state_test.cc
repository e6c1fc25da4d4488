#include "plait/launch/process_state.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace plait {
namespace {

std::string child_name(pid_t child) {
  const std::string mine = this_process();
  return mine.substr(0, mine.rfind('/') + 1) + std::to_string(child);
}

TEST(ProcessState, TellsAStoppedProcessFromOneThatRunsAndOneThatHasEnded) {
  EXPECT_EQ(state_of_process(this_process()), ProcessState::kRuns);
  const pid_t child = fork();
  if (child == 0) {
    while (true) pause();
  }
  const std::string name = child_name(child);
  EXPECT_EQ(state_of_process(name), ProcessState::kRuns);
  int status = 0;
  kill(child, SIGSTOP);
  waitpid(child, &status, WUNTRACED);
  EXPECT_EQ(state_of_process(name), ProcessState::kStopped);
  kill(child, SIGKILL);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  EXPECT_EQ(state_of_process(name), ProcessState::kGone);  // nobody has waited for it
  waitpid(child, &status, 0);
  EXPECT_EQ(state_of_process(name), ProcessState::kGone);
}

TEST(ProcessState, OfAnotherMachineNothingIsKnown) {
  for (const char* text : {"", "4711", "another-boot/pid:[1]/1"})
    EXPECT_EQ(state_of_process(text), ProcessState::kElsewhere) << text;
  EXPECT_EQ(state_of_process(this_process() + "x"), ProcessState::kElsewhere);
}

}  // namespace
}  // namespace plait
