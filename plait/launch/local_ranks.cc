#include "plait/launch/local_ranks.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include "plait/base/check.h"
#include "plait/base/running_clock.h"
#include "plait/launch/launch.h"
#include "plait/launch/process_state.h"
#include "plait/launch/signals.h"

namespace plait {
namespace {

// kill_all() runs in a signal handler: it can reach nothing but globals.
constexpr std::size_t kMaxChildren = 4096;
std::array<std::atomic<pid_t>, kMaxChildren> child_pids;

/// In a rank's pipe, among its words: it has met the others.
constexpr char kMet = '\x06';
/// Around a report.
constexpr char kReportBegins = '\x02', kReportEnds = '\x03';

std::string signal_name(int number) {
  const char* name = sigabbrev_np(number);
  return fmt::format("signal {}{}", number, name == nullptr ? "" : fmt::format(" (SIG{})", name));
}

std::string how_it_ended(int status, bool stopped_by_us) {
  if (stopped_by_us) return "did not end by itself and was killed";
  if (WIFSIGNALED(status)) return "was killed by " + signal_name(WTERMSIG(status));
  return fmt::format("ended with exit code {}", WEXITSTATUS(status));
}

std::string without_line_end(std::string words) {
  while (!words.empty() && words.back() == '\n') words.pop_back();
  return words;
}

bool ended_well(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }

/// Ctrl-Z is noted here and acted on by LocalRanks::wait(). A terminal's signal only: a shell
/// without job control has it ignored, and then it stays so.
std::atomic<bool> suspension_wanted = false;

class NotesSuspension {
 public:
  NotesSuspension() {
    suspension_wanted = false;
    struct sigaction ours {};
    ours.sa_handler = [](int) { suspension_wanted = true; };
    sigemptyset(&ours.sa_mask);
    ours.sa_flags = SA_RESTART;
    sigaction(SIGTSTP, nullptr, &before_);
    if (before_.sa_handler != SIG_IGN) sigaction(SIGTSTP, &ours, nullptr);
  }
  ~NotesSuspension() { sigaction(SIGTSTP, &before_, nullptr); }
  NotesSuspension(const NotesSuspension&) = delete;
  NotesSuspension& operator=(const NotesSuspension&) = delete;

 private:
  struct sigaction before_ {};
};

/// Holds all signals back for its lifetime: until it has its own program, a child must not take
/// one with the parent's handlers.
class SignalsHeld {
 public:
  SignalsHeld() {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsHeld() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

  /// In the child. Async-signal-safe.
  void release_with_default_actions() const {
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGTSTP}) {
      struct sigaction action {};
      sigaction(number, nullptr, &action);
      if (action.sa_handler == SIG_IGN) continue;
      action.sa_handler = SIG_DFL;
      sigaction(number, &action, nullptr);
    }
    sigprocmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t before_{};
};

/// Runs in the child between fork and exec: async-signal-safe calls only.
[[noreturn]] void become_rank(const char* program, char** arguments, char** environment, int output,
                              pid_t parent, const SignalsHeld& signals) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  if (output >= 0) {
    dup2(output, STDOUT_FILENO);
  }
  signals.release_with_default_actions();
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
    std::vector<std::string> variables;
    for (const auto& [name, value] : environment)
      variables.push_back(fmt::format("{}={}", name, value));
    std::vector<char*> argument_list = pointers(arguments);
    std::vector<char*> variable_list = pointers(variables);
    pid_t pid = -1;
    {
      const SignalsHeld signals;
      pid = fork();
      if (pid == 0) {
        fcntl(pipe_ends[1], F_SETFD, 0);
        become_rank(options.program.c_str(), argument_list.data(), variable_list.data(), output,
                    parent, signals);
      }
    }
    close(pipe_ends[1]);
    if (output >= 0) close(output);
    if (pid < 0)
      return fail(ErrorCode::kRuntime,
                  fmt::format("rank {} cannot be started: {}", rank, std::strerror(errno)));
    fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK);
    child_pids[static_cast<std::size_t>(rank)] = pid;
    Child child;
    child.pid = pid;
    child.pipe = pipe_ends[0];
    ranks.children_.push_back(std::move(child));
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

void LocalRanks::pass_on_suspension() {
  if (!suspension_wanted.exchange(false)) return;
  for (const Child& child : children_) {
    if (!child.ended) kill(child.pid, SIGSTOP);
  }
  raise(SIGSTOP);  // returns when somebody continues this process
  for (const Child& child : children_) {
    if (!child.ended) kill(child.pid, SIGCONT);
  }
}

/// Not to one that has not met the others: it may not have its handler yet.
void LocalRanks::pass_on_report_signal() {
  if (!ReportSignal::take()) return;
  for (const Child& child : children_) {
    if (child.ended || !child.met || state_of_process(child.pid) != ProcessState::kRuns) continue;
    kill(child.pid, SIGUSR1);
    return;
  }
  if (options_.on_report) options_.on_report("no rank runs that has met the others");
}

bool LocalRanks::all_ended() const {
  for (const Child& child : children_) {
    if (!child.ended) return false;
  }
  return true;
}

void LocalRanks::reap() {
  for (std::size_t rank = 0; rank < children_.size(); ++rank) {
    Child& child = children_[rank];
    if (child.ended || waitpid(child.pid, &child.status, WNOHANG) != child.pid) continue;
    child.ended = true;
    child_pids[rank] = 0;
    if (ended_well(child.status)) continue;
    // A rank that was killed is the cause even if another noticed before we did.
    const bool killed = WIFSIGNALED(child.status) && !child.stopped_by_us;
    if (first_dead_ < 0 ||
        (killed && !WIFSIGNALED(children_[static_cast<std::size_t>(first_dead_)].status))) {
      first_dead_ = static_cast<int>(rank);
    }
  }
  // Afterwards: what a rank said before another one died counts as said before.
  for (Child& child : children_) child.hear(options_.on_report);
}

void LocalRanks::Child::hear(const std::function<void(const std::string&)>& on_report) {
  std::array<char, 4096> buffer{};
  for (ssize_t count = 0; (count = read(pipe, buffer.data(), buffer.size())) > 0;) {
    for (const char one : std::string_view(buffer.data(), static_cast<std::size_t>(count))) {
      if (one == kMet) {
        met = true;
      } else if (one == kReportBegins) {
        in_report = true;
        report.clear();
      } else if (one == kReportEnds) {
        in_report = false;
        if (on_report) on_report(report);
      } else if (in_report) {
        report += one;
      } else {
        words += one;
      }
    }
  }
}

/// They wait for one that does not come, and are in set-up, where SIGTERM ends a rank at once.
void LocalRanks::end_those_that_have_not_met() {
  for (Child& child : children_) {
    if (child.ended || child.met) continue;
    before_they_met_ = true;
    child.stopped_by_us = true;
    kill(child.pid, SIGTERM);
  }
}

LocalRanks::Outcome LocalRanks::wait() {
  const NotesSuspension suspension;
  RunningClock clock;
  std::optional<Nanoseconds> deadline;
  bool killed_the_rest = false;
  while (true) {
    pass_on_suspension();
    pass_on_stop_signal();
    pass_on_report_signal();
    reap();
    if (all_ended()) break;
    if (first_dead_ >= 0 && !deadline) {
      deadline = clock.read() + static_cast<Nanoseconds>(options_.grace_s * 1e9);
      end_those_that_have_not_met();
    }
    if (const Nanoseconds time = clock.read(); deadline && time > *deadline && !killed_the_rest) {
      killed_the_rest = true;
      for (Child& child : children_) child.stopped_by_us |= !child.ended;
      kill_all();
    }
    std::vector<pollfd> polls;
    for (const Child& child : children_) {
      if (!child.ended) polls.push_back({child.pipe, POLLIN, 0});
    }
    // A child's end closes its pipe: poll returns at once, and waitpid soon after.
    if (poll(polls.data(), polls.size(), 50) > 0) usleep(2000);
  }
  pass_on_stop_signal();
  return stop_signal_ != 0 ? judge_stop() : judge();
}

/// The ranks were asked to end. What follows from that is no failure; what does not is one.
LocalRanks::Outcome LocalRanks::judge_stop() const {
  Outcome outcome{128 + stop_signal_, ""};
  for (const Child& child : children_) {
    const bool as_asked =
        ended_well(child.status) || child.stopped_by_us ||
        (WIFSIGNALED(child.status) ? WTERMSIG(child.status) == stop_signal_
                                   : WEXITSTATUS(child.status) == 128 + stop_signal_);
    if (!as_asked) return judge();
    if (outcome.message.empty()) outcome.message = without_line_end(child.words);
  }
  if (outcome.message.empty()) outcome.message = stop_word(stop_signal_);
  return outcome;
}

LocalRanks::Outcome LocalRanks::judge() const {
  Outcome outcome;
  if (first_dead_ < 0) return outcome;
  for (const Child& child : children_)
    outcome.lost_a_rank = outcome.lost_a_rank || WIFSIGNALED(child.status);
  const Child& dead = children_[static_cast<std::size_t>(first_dead_)];
  outcome.exit_code = WIFSIGNALED(dead.status) ? 1 : WEXITSTATUS(dead.status);
  const std::string last_words = without_line_end(dead.words);
  if (WIFSIGNALED(dead.status) || last_words.empty()) {
    outcome.message =
        fmt::format("rank {} {}{}", first_dead_, how_it_ended(dead.status, dead.stopped_by_us),
                    before_they_met_ ? " before the ranks had met" : "");
  } else {
    outcome.message = last_words;
  }
  // Wrong input: all ranks say the same. Before they met: the others know nothing.
  if (outcome.exit_code == 2 || before_they_met_) return outcome;
  for (std::size_t rank = 0; rank < children_.size(); ++rank) {
    if (static_cast<int>(rank) == first_dead_) continue;
    const Child& child = children_[rank];
    const std::string words = without_line_end(child.words);
    outcome.message += words.empty() ? fmt::format("; rank {} {}", rank,
                                                   how_it_ended(child.status, child.stopped_by_us))
                                     : "; " + words;
  }
  return outcome;
}

namespace {

/// Async-signal-safe.
bool write_to_parent(std::string_view text, std::string_view end) {
  const char* pipe = std::getenv(kPipeVariable);
  if (pipe == nullptr) return false;
  const std::array<iovec, 2> parts = {iovec{const_cast<char*>(text.data()), text.size()},
                                      iovec{const_cast<char*>(end.data()), end.size()}};
  return writev(std::atoi(pipe), parts.data(), parts.size()) ==
         static_cast<ssize_t>(text.size() + end.size());
}

}  // namespace

bool tell_parent_report(std::string_view text) {
  return write_to_parent(kReportBegins + std::string(text), std::string_view(&kReportEnds, 1));
}

bool tell_parent(std::string_view words) { return write_to_parent(words, "\n"); }

void tell_parent_of_meeting() { write_to_parent(std::string_view(&kMet, 1), ""); }

}  // namespace plait
