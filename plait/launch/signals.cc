#include "plait/launch/signals.h"

#include <unistd.h>
#include <csignal>

#include <atomic>

#include "plait/base/check.h"

namespace plait {
namespace {

// A signal handler can reach nothing but globals.
std::atomic<int> stop_signal = 0;
std::atomic<bool> installed = false;
void (*second_action)() = nullptr;

void handle(int signal) {
  int none = 0;
  if (stop_signal.compare_exchange_strong(none, signal)) return;
  if (second_action != nullptr) second_action();
  _exit(128 + signal);
}

void install(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

StopSignals::StopSignals(void (*on_second)()) {
  PLAIT_CHECK(!installed.exchange(true), "one StopSignals at a time");
  second_action = on_second;
  stop_signal = 0;
  install(handle);
}

StopSignals::~StopSignals() {
  install(SIG_DFL);
  second_action = nullptr;
  installed = false;
}

int StopSignals::requested() { return stop_signal.load(std::memory_order_relaxed); }

}  // namespace plait
