#include "plait/launch/signals.h"

#include <unistd.h>
#include <array>
#include <atomic>
#include <csignal>

#include "plait/base/check.h"

namespace plait {
namespace {

constexpr std::array<int, 3> kStopSignals = {SIGINT, SIGTERM, SIGHUP};

// A signal handler can reach nothing but globals.
std::atomic<int> stop_signal = 0;
std::atomic<bool> deferred = false;
std::atomic<bool> report_wanted = false;
std::atomic<bool> installed = false;
void (*last_action)(int) = nullptr;

void handle(int signal) {
  int none = 0;
  if (deferred && stop_signal.compare_exchange_strong(none, signal)) return;
  if (last_action != nullptr) last_action(signal);
  _exit(128 + signal);
}

bool is_ignored(int signal) {
  struct sigaction action {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

void install(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (const int signal : kStopSignals) {
    // Shells start jobs in the background of a script with SIGINT ignored: of those only SIGHUP
    // is somebody's wish.
    if (signal != SIGHUP || !is_ignored(SIGHUP)) sigaction(signal, &action, nullptr);
  }
}

}  // namespace

StopSignals::StopSignals(void (*before_exit)(int)) {
  PLAIT_CHECK(!installed.exchange(true), "one StopSignals at a time");
  last_action = before_exit;
  stop_signal = 0;
  deferred = false;
  install(handle);
  std::signal(SIGXFSZ, SIG_IGN);
}

StopSignals::~StopSignals() {
  install(SIG_DFL);
  last_action = nullptr;
  installed = false;
}

void StopSignals::defer() { deferred = true; }

int StopSignals::requested() { return stop_signal.load(std::memory_order_relaxed); }

ReportSignal::ReportSignal() {
  report_wanted = false;
  struct sigaction action {};
  action.sa_handler = [](int) { report_wanted = true; };
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
}

ReportSignal::~ReportSignal() {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  sigemptyset(&action.sa_mask);
  sigaction(SIGUSR1, &action, nullptr);
}

bool ReportSignal::take() { return report_wanted.exchange(false, std::memory_order_relaxed); }

const char* stop_word(int signal) {
  return signal == SIGINT ? "interrupted" : signal == SIGHUP ? "hung up" : "terminated";
}

}  // namespace plait
