#include "python/torch/work_wait.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace plait::python {

/// The one thread. It and this object live as long as the process.
class WaitWatch {
 public:
  static WaitWatch& instance() {
    static auto* const watch = new WaitWatch();
    return *watch;
  }

  void add(WaitPlace& place) {
    const std::lock_guard lock(mutex_);
    places_.push_back(&place);
  }
  void remove(WaitPlace& place) {
    const std::lock_guard lock(mutex_);
    std::erase(places_, &place);
  }
  void begin_step() {
    {
      const std::lock_guard lock(mutex_);
      if (steps_++ > 0) return;
      if (!running_) {
        running_ = true;
        std::thread([this] { run(); }).detach();
      }
    }
    changed_.notify_one();
  }
  void end_step() {
    const std::lock_guard lock(mutex_);
    --steps_;
  }

 private:
  static constexpr std::chrono::milliseconds kPeriod{25};

  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return steps_ > 0; });
      changed_.wait_for(lock, kPeriod, [] { return false; });
      for (WaitPlace* place : places_) place->look();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<WaitPlace*> places_;
  int steps_ = 0;
  bool running_ = false;
};

WaitPlace::WaitPlace() { WaitWatch::instance().add(*this); }

WaitPlace::~WaitPlace() {
  end_step();
  WaitWatch::instance().remove(*this);
}

void WaitPlace::begin_step() {
  if (!in_step_) WaitWatch::instance().begin_step();
  in_step_ = true;
}

void WaitPlace::end_step() {
  if (in_step_) WaitWatch::instance().end_step();
  in_step_ = false;
}

bool WaitPlace::wait(c10d::Work& work) {
  const auto begin = [&](c10d::Work* current) {
    const std::lock_guard lock(mutex_);
    work_ = current;
    waits_ += current == nullptr ? 0 : 1;
  };
  begin(&work);
  try {
    const bool ended = work.wait();
    begin(nullptr);
    return ended;
  } catch (...) {
    begin(nullptr);
    throw;
  }
}

void WaitPlace::look() {
  const std::lock_guard lock(mutex_);
  if (work_ != nullptr && seen_ == waits_) work_->abort();
  seen_ = waits_;
}

}  // namespace plait::python
