#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "plait/base/check.h"
#include "plait/launch/launch.h"
#include "plait/launch/signals.h"

extern char** environ;

namespace plait {
namespace {

// kill_all() runs in a signal handler: it can reach nothing but globals.
constexpr std::size_t kMaxChildren = 4096;
std::array<std::atomic<pid_t>, kMaxChildren> child_pids;

std::string signal_name(int number) {
  const char* name = sigabbrev_np(number);
  return fmt::format("signal {}{}", number, name == nullptr ? "" : fmt::format(" (SIG{})", name));
}

std::string how_it_ended(int status, bool stopped_by_us) {
  if (stopped_by_us) return "did not end by itself and was killed";
  if (WIFSIGNALED(status)) return "was killed by " + signal_name(WTERMSIG(status));
  return fmt::format("ended with exit code {}", WEXITSTATUS(status));
}

/// Runs in the child between fork and exec: async-signal-safe calls only.
[[noreturn]] void become_rank(const char* program, char** arguments, char** environment, int output,
                              pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  if (output >= 0) {
    dup2(output, STDOUT_FILENO);
  }
  execve(program, arguments, environment);
  _exit(127);
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (std::string& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

}  // namespace

Expected<LocalRanks> LocalRanks::start(const Options& options) {
  PLAIT_CHECK(static_cast<std::size_t>(options.ranks) <= kMaxChildren,
              "more ranks than one machine runs");
  LocalRanks ranks;
  ranks.options_ = options;
  const std::string program = "/proc/self/exe";
  const pid_t parent = getpid();
  for (int rank = 0; rank < options.ranks; ++rank) {
    std::array<int, 2> pipe_ends{};
    if (pipe2(pipe_ends.data(), O_CLOEXEC) != 0)
      return fail(ErrorCode::kRuntime, "no pipe to a rank can be made");
    const int output = rank > 0 ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;
    std::vector<std::string> arguments = options.arguments;
    arguments.insert(arguments.begin(), "plait");
    Environment environment = current_environment();
    environment[kRankVariable] = std::to_string(rank);
    environment[kRanksVariable] = std::to_string(options.ranks);
    environment[kPortVariable] = std::to_string(options.master_port);
    environment[kPipeVariable] = std::to_string(pipe_ends[1]);
    environment.try_emplace("TORCH_CPP_LOG_LEVEL", "ERROR");
    std::vector<std::string> variables;
    for (const auto& [name, value] : environment)
      variables.push_back(fmt::format("{}={}", name, value));
    std::vector<char*> argument_list = pointers(arguments);
    std::vector<char*> variable_list = pointers(variables);
    const pid_t pid = fork();
    if (pid == 0) {
      fcntl(pipe_ends[1], F_SETFD, 0);
      become_rank(program.c_str(), argument_list.data(), variable_list.data(), output, parent);
    }
    close(pipe_ends[1]);
    if (output >= 0) close(output);
    if (pid < 0)
      return fail(ErrorCode::kRuntime,
                  fmt::format("rank {} cannot be started: {}", rank, std::strerror(errno)));
    fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK);
    child_pids[static_cast<std::size_t>(rank)] = pid;
    ranks.children_.push_back({pid, pipe_ends[0], 0, false, "", false});
  }
  return ranks;
}

LocalRanks::~LocalRanks() {
  for (std::size_t rank = 0; rank < children_.size(); ++rank) {
    Child& child = children_[rank];
    if (!child.ended) {
      kill(child.pid, SIGKILL);
      waitpid(child.pid, &child.status, 0);
    }
    child_pids[rank] = 0;
    close(child.pipe);
  }
}

void LocalRanks::kill_all() {
  for (const std::atomic<pid_t>& pid : child_pids) {
    if (const pid_t child = pid.load(); child > 0) kill(child, SIGKILL);
  }
}

void LocalRanks::pass_on_stop_signal() {
  const int signal = StopSignals::requested();
  if (signal == 0 || stop_signal_ != 0) return;
  stop_signal_ = signal;
  for (const Child& child : children_) {
    if (!child.ended) kill(child.pid, signal);
  }
}

void LocalRanks::reap() {
  for (std::size_t rank = 0; rank < children_.size(); ++rank) {
    Child& child = children_[rank];
    std::array<char, 4096> buffer{};
    for (ssize_t count = 0; (count = read(child.pipe, buffer.data(), buffer.size())) > 0;) {
      child.words.append(buffer.data(), static_cast<std::size_t>(count));
    }
    if (child.ended || waitpid(child.pid, &child.status, WNOHANG) != child.pid) continue;
    child.ended = true;
    child_pids[rank] = 0;
    const bool well = WIFEXITED(child.status) && WEXITSTATUS(child.status) == 0;
    // A rank that was killed is the cause even if another noticed before we did.
    const bool killed = WIFSIGNALED(child.status) && !child.stopped_by_us;
    if (!well &&
        (first_dead_ < 0 ||
         (killed && !WIFSIGNALED(children_[static_cast<std::size_t>(first_dead_)].status)))) {
      first_dead_ = static_cast<int>(rank);
    }
  }
}

LocalRanks::Outcome LocalRanks::wait() {
  Nanoseconds deadline = 0;
  bool killed_the_rest = false;
  while (true) {
    pass_on_stop_signal();
    reap();
    bool all_ended = true;
    for (const Child& child : children_) all_ended = all_ended && child.ended;
    if (all_ended) break;
    if (first_dead_ >= 0 && deadline == 0)
      deadline = now() + static_cast<Nanoseconds>(options_.grace_s * 1e9);
    if (deadline != 0 && now() > deadline && !killed_the_rest) {
      killed_the_rest = true;
      for (Child& child : children_) child.stopped_by_us = !child.ended;
      kill_all();
    }
    std::vector<pollfd> polls;
    for (const Child& child : children_) {
      if (!child.ended) polls.push_back({child.pipe, POLLIN, 0});
    }
    // A child's end closes its pipe: poll returns at once, and waitpid soon after.
    if (poll(polls.data(), polls.size(), 50) > 0) usleep(2000);
  }
  reap();  // last words
  return judge();
}

LocalRanks::Outcome LocalRanks::judge() const {
  Outcome outcome;
  if (first_dead_ < 0) return outcome;
  const Child& dead = children_[static_cast<std::size_t>(first_dead_)];
  outcome.exit_code = WIFSIGNALED(dead.status) ? 1 : WEXITSTATUS(dead.status);
  if (stop_signal_ != 0 && outcome.exit_code == 128 + stop_signal_) {
    outcome.message = children_.front().words;  // every rank ended as it was asked to
    while (!outcome.message.empty() && outcome.message.back() == '\n') outcome.message.pop_back();
    return outcome;
  }
  const auto one_line = [](std::string words) {
    while (!words.empty() && words.back() == '\n') words.pop_back();
    return words;
  };
  if (WIFSIGNALED(dead.status) || dead.words.empty()) {
    outcome.message =
        fmt::format("rank {} {}", first_dead_, how_it_ended(dead.status, dead.stopped_by_us));
  } else {
    outcome.message = one_line(dead.words);
  }
  if (outcome.exit_code == 2) return outcome;  // wrong input: all ranks say the same
  for (std::size_t rank = 0; rank < children_.size(); ++rank) {
    if (static_cast<int>(rank) == first_dead_) continue;
    const Child& child = children_[rank];
    const std::string words = one_line(child.words);
    outcome.message += words.empty() ? fmt::format("; rank {} {}", rank,
                                                   how_it_ended(child.status, child.stopped_by_us))
                                     : "; " + words;
  }
  return outcome;
}

bool tell_parent(const std::string& words) {
  const char* pipe = std::getenv(kPipeVariable);
  if (pipe == nullptr) return false;
  const std::string line = words + "\n";
  return write(std::atoi(pipe), line.data(), line.size()) == static_cast<ssize_t>(line.size());
}

}  // namespace plait
