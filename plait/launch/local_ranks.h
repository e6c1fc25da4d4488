/// Starts the ranks of one machine as processes and watches them. Knows no torch.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "plait/base/error.h"

namespace plait {

/// The children of one run on this machine. Rank 0 prints where the parent does; what the others
/// print goes nowhere until they open a log, their errors where the parent's go. Each rank is this
/// program again with the same arguments, in a process group of its own, so that a terminal's
/// Ctrl-C reaches only the parent, which passes it on once; none outlives the parent.
class LocalRanks {
 public:
  struct Options {
    int ranks = 0;
    std::vector<std::string> arguments;  ///< of the program, without its name
    int master_port = 0;
    double grace_s = 10;  ///< how long the others may take to end after the first has died
    std::string program = "/proc/self/exe";
    /// Told of what ranks say by tell_parent_report().
    std::function<void(const std::string&)> on_report{};
  };
  struct Outcome {
    int exit_code = 0;
    std::string message;  ///< empty if all ended well; names who died and who waited for what
    /// A rank was killed, or had to be because it did not end: the others may do it over again.
    bool lost_a_rank = false;
  };

  /// Errors (kRuntime): a process cannot be started.
  static Expected<LocalRanks> start(const Options& options);
  LocalRanks(LocalRanks&&) noexcept = default;
  LocalRanks& operator=(LocalRanks&&) = delete;
  ~LocalRanks();

  /// Waits until all have ended. Passes on the first of StopSignals, and Ctrl-Z: the ranks stop
  /// with this process and go on with it. When a rank dies, those that have not met the others are
  /// ended at once; those that have notice by themselves and get grace_s before they are killed. A
  /// ReportSignal goes to the first rank that runs.
  Outcome wait();
  /// Ends all at once; async-signal-safe.
  static void kill_all();

 private:
  LocalRanks() = default;
  struct Child {
    pid_t pid = -1;
    int pipe = -1;       ///< what the rank has to say
    std::string words;   ///< why it fails
    std::string report;  ///< what has come of a report
    bool in_report = false;
    bool met = false;  ///< it has met all other ranks
    int status = 0;
    bool ended = false;
    bool stopped_by_us = false;  ///< it did not end by itself when another had

    /// Takes what has come through the pipe.
    void hear(const std::function<void(const std::string&)>& on_report);
  };
  void pass_on_stop_signal();
  void pass_on_suspension();
  void pass_on_report_signal();
  void reap();
  void end_those_that_have_not_met();
  bool all_ended() const;
  Outcome judge() const;
  Outcome judge_stop() const;

  Options options_;
  std::vector<Child> children_;
  int first_dead_ = -1;
  bool before_they_met_ = false;  ///< the first died before all had met
  int stop_signal_ = 0;
};

/// In a rank started by LocalRanks: tells the parent in a line why it fails or what it waited for.
/// False if there is no such parent. Async-signal-safe.
bool tell_parent(std::string_view words);

/// In a rank started by LocalRanks: text for Options::on_report; the run goes on. False if there is
/// no such parent.
bool tell_parent_report(std::string_view text);

/// In a rank started by LocalRanks: tells the parent that this rank has met all others, and so
/// would notice the death of one. Does nothing if there is no such parent.
void tell_parent_of_meeting();

}  // namespace plait
