#include "plait/runtime/rank_threads.h"

#include <fmt/core.h>

#include <utility>

namespace plait {

RankThreads::RankThreads(int ranks) {
  threads_.reserve(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) threads_.emplace_back([this, rank] { serve(rank); });
}

RankThreads::~RankThreads() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

Expected<void> RankThreads::run(const std::function<Expected<void>(int)>& work,
                                const std::function<void(const Error&)>& abort) {
  std::unique_lock lock(mutex_);
  work_ = &work;
  abort_ = &abort;
  first_error_.reset();
  working_ = static_cast<int>(threads_.size());
  ++round_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return working_ == 0; });
  if (first_error_) return tl::unexpected<Error>(*std::exchange(first_error_, std::nullopt));
  return {};
}

void RankThreads::serve(int rank) {
  std::unique_lock lock(mutex_);
  std::uint64_t done = 0;  // rounds
  while (true) {
    changed_.wait(lock, [&] { return ends_ || round_ != done; });
    if (ends_) return;
    done = round_;
    lock.unlock();
    const Expected<void> result = (*work_)(rank);
    lock.lock();
    if (!result) {
      if (!first_error_) first_error_ = result.error();
      lock.unlock();
      (*abort_)(
          {ErrorCode::kPeer, fmt::format("rank {} failed: {}", rank, result.error().text()), ""});
      lock.lock();
    }
    if (--working_ == 0) changed_.notify_all();
  }
}

}  // namespace plait
