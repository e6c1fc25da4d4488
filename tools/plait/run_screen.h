/// plait train --watch: the run's folder on the terminal's second screen, as plait top shows it.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "plait/record/run_view.h"

namespace plait::tools {

/// Name of the file in a run's folder that gets the lines of rank 0 while the screen is shown.
inline constexpr const char* kWatchedLog = "rank-0.log";

/// Made before the run, so that it can tell the run's files from those of one that is overwritten.
class RunScreen {
 public:
  explicit RunScreen(const std::string& folder);
  ~RunScreen() { stop(); }
  RunScreen(const RunScreen&) = delete;
  RunScreen& operator=(const RunScreen&) = delete;

  /// Shows the run from when its folder is there, in a thread of its own.
  void start();
  /// Gives the terminal back and prints what the log says from the last step on, and on stderr why
  /// the screen ended before the run if it did.
  void end();

 private:
  void stop();
  void follow();
  void print_end_of_log() const;

  RunFollower run_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopped_ = false;
  std::optional<Error> error_;
};

}  // namespace plait::tools
