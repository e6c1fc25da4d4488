#include "plait/runtime/emulated_link.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace plait {

struct DelayedComm::State {
  /// What goes out when its time has come.
  struct Parcel {
    Nanoseconds due = 0;
    std::function<void()> hand_over;
  };

  State(Comm& of, const EmulatedLink& over)
      : below(of), link(over), thread([this] { deliver(); }) {}
  ~State() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    changed.notify_all();
    thread.join();
  }

  void post(Bytes bytes, std::function<void()> hand_over) {
    std::unique_lock lock(mutex);
    if (aborted) {
      lock.unlock();
      hand_over();  // which the comm below ends
      return;
    }
    const Nanoseconds begin = std::max(now(), free_at);
    // In two steps: the product of bytes and nanoseconds a second leaves 64 bits at nine
    // gigabytes.
    const Nanoseconds seconds = link.bytes_per_s == 0 ? 0 : bytes / link.bytes_per_s;
    const Nanoseconds rest =
        link.bytes_per_s == 0 ? 0 : bytes % link.bytes_per_s * 1'000'000'000 / link.bytes_per_s;
    free_at = begin + seconds * 1'000'000'000 + rest;
    parcels.push_back({free_at + link.latency, std::move(hand_over)});
    lock.unlock();
    changed.notify_all();
  }

  void deliver() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stopping || !parcels.empty(); });
      if (stopping) return;
      const Nanoseconds wait = parcels.front().due - now();
      if (wait > 0) {
        changed.wait_for(lock, std::chrono::nanoseconds(wait), [&] { return stopping; });
        continue;
      }
      const std::function<void()> hand_over = std::move(parcels.front().hand_over);
      parcels.pop_front();
      lock.unlock();
      hand_over();
      lock.lock();
    }
  }

  Comm& below;
  EmulatedLink link;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Parcel>
      parcels;  // in the order in which they were posted, which is that of their times
  Nanoseconds free_at = 0;
  bool stopping = false;
  bool aborted = false;
  std::thread thread;
};

DelayedComm::DelayedComm(Comm& below, const EmulatedLink& link)
    : state_(std::make_unique<State>(below, link)) {}
DelayedComm::~DelayedComm() = default;

void DelayedComm::send(const Message& message, Value value, std::uint32_t token,
                       CompletionSink& sink) {
  const Bytes bytes = value ? value->bytes() : 0;
  // std::function copies; the value has one owner.
  auto shared = std::make_shared<Value>(std::move(value));
  state_->post(bytes, [this, message, shared, token, &sink] {
    state_->below.send(message, std::move(*shared), token, sink);
  });
}

void DelayedComm::recv(const Message& message, const ValueSpec& spec, std::uint32_t token,
                       CompletionSink& sink) {
  state_->below.recv(message, spec, token, sink);
}

void DelayedComm::collective(const Collective& which, std::unique_ptr<ExchangeValue> value,
                             std::uint32_t token, CompletionSink& sink) {
  const Bytes bytes = value->bytes_leaving();
  auto shared = std::make_shared<std::unique_ptr<ExchangeValue>>(std::move(value));
  state_->post(bytes, [this, which, shared, token, &sink] {
    state_->below.collective(which, std::move(*shared), token, sink);
  });
}

void DelayedComm::abort(const Error& error) {
  state_->below.abort(error);
  std::deque<State::Parcel> left;
  {
    const std::lock_guard lock(state_->mutex);
    state_->aborted = true;
    left.swap(state_->parcels);
  }
  for (const State::Parcel& parcel : left) parcel.hand_over();
}

}  // namespace plait
