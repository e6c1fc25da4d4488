/// The mean of whole numbers as they come.
#pragma once

#include <cstdint>

namespace plait {

/// Rounded towards 0; 0 of nothing.
class RunningMean {
 public:
  void add(std::int64_t value) {
    sum_ += value;
    ++count_;
  }
  std::int64_t count() const { return count_; }
  std::int64_t value() const { return count_ == 0 ? 0 : sum_ / count_; }

 private:
  std::int64_t sum_ = 0;
  std::int64_t count_ = 0;
};

}  // namespace plait
