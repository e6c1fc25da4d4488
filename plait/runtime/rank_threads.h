/// A thread for each rank of a process, which waits between one piece of work and the next.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "plait/base/error.h"

namespace plait {

/// Calls come from one thread.
class RankThreads {
 public:
  explicit RankThreads(int ranks);
  ~RankThreads();
  RankThreads(const RankThreads&) = delete;
  RankThreads& operator=(const RankThreads&) = delete;

  /// Calls `work` for each rank on its thread and returns when all have returned. When one fails,
  /// `abort` is called with an error that names it. Returns the first cause, not its consequences.
  Expected<void> run(const std::function<Expected<void>(int rank)>& work,
                     const std::function<void(const Error&)>& abort);

 private:
  void serve(int rank);

  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<Expected<void>(int)>* work_ = nullptr;
  const std::function<void(const Error&)>* abort_ = nullptr;
  std::uint64_t round_ = 0;
  int working_ = 0;
  bool ends_ = false;
  std::optional<Error> first_error_;
  std::vector<std::thread> threads_;
};

}  // namespace plait
