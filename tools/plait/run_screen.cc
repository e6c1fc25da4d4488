#include "tools/plait/run_screen.h"

#include <fmt/core.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <vector>

#include "plait/draw/watch.h"
#include "tools/plait/output.h"
#include "tools/plait/terminal.h"

namespace plait::tools {

RunScreen::RunScreen(const std::string& folder) : run_(RunFollower::of_next_run(folder)) {}

void RunScreen::start() {
  thread_ = std::thread([this] { follow(); });
}

void RunScreen::end() {
  stop();
  print_end_of_log();
  if (error_)
    fmt::print(stderr, "plait train: the screen ended before the run: {}\n", error_->text());
}

void RunScreen::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void RunScreen::follow() {
  std::optional<SecondScreen> screen;
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    lock.unlock();
    if (const Expected<void> read = run_.refresh(); !read) {
      error_ = read.error();
      return;
    }
    if (run_.view().begun) {
      if (!screen) screen.emplace();
      SecondScreen::show(draw_run(run_.view(), screen_style("Ctrl-C ends the run after its step")));
    }
    lock.lock();
    wake_.wait_for(lock, std::chrono::milliseconds(500), [&] { return stopped_; });
  }
}

void RunScreen::print_end_of_log() const {
  std::ifstream log(run_.view().folder + "/" + kWatchedLog);
  std::vector<std::string> end;
  for (std::string line; std::getline(log, line);) {
    // "step 12/300  …"; a validation's line has no slash there.
    if (line.starts_with("step ") && line.find('/') < line.find("  ")) end.clear();
    end.push_back(line);
  }
  for (const std::string& line : end) print("{}\n", line);
  flush_output();
}

}  // namespace plait::tools
