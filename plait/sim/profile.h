/// Costs fitted to measured steps, to forecast others.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "plait/base/error.h"
#include "plait/sim/cost_file.h"
#include "plait/trace/timeline.h"

namespace plait {

/// Mean of what was added, rounded down; 0 of nothing.
class RunningMean {
 public:
  void add(Nanoseconds value) {
    sum_ += value;
    ++count_;
  }
  std::int64_t count() const { return count_; }
  Nanoseconds value() const { return count_ == 0 ? 0 : sum_ / count_; }

 private:
  Nanoseconds sum_ = 0;
  std::int64_t count_ = 0;
};

/// Collects the times of compute actions by stage, and how long a value takes from one rank to the
/// next. Fits means: a step is a sum, in which the pauses of the machine are too. Only times of
/// stages that compute: exchanges inside stages have no place in it. Memory: O(stages). Not
/// thread-safe.
class CostProfile {
 public:
  explicit CostProfile(int stages) : times_(static_cast<std::size_t>(stages)) {}

  /// A measured step; the first ones of a run are not worth it. Cost: O(n log n) in its events.
  void add(const Timeline& timeline);

  /// F, I, W and B of every stage, each with the time that lies between two actions neither of
  /// which waits, and the hop between ranks. Errors (kInvalidInput): a stage of which F, I or W
  /// was never seen.
  Expected<CostSettings> settings() const;

 private:
  std::vector<std::array<RunningMean, 4>> times_;  // by stage: F, I, W, B
  RunningMean hops_;
  RunningMean gaps_;
};

/// The costs of stages of which each holds `count` neighbours of those given.
CostSettings merge_stages(const CostSettings& settings, int count);

/// The times of stages and the hop, as parse_cost_file reads them.
std::string print_costs(const CostSettings& settings);

}  // namespace plait
