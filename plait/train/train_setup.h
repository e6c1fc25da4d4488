/// All that a rank's trainer is given, as values: no job file behind it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "plait/train/model_source.h"
#include "plait/train/optimizer.h"
#include "plait/train/train_plan.h"

namespace plait {

struct TrainSettings {
  bool gpu = false;  ///< each rank on a GPU (torch/device_cuda.h), else on the CPU
  int threads = 1;   ///< intra-op, of each rank
  bool pin = false;  ///< each rank on `threads` cores of its own
  double timeout_s = 60.0;
  double start_timeout_s = 300.0;  ///< until the first step has ended
  /// Last words ("mlp" of "2.mlp") of the names of segments that keep only their inputs and run
  /// again before their backward.
  std::set<std::string> recompute{};
  std::int64_t tokens_per_step = 0;  ///< over all columns, for the report; 0: not known
  double clip_norm = 0;              ///< 0: gradients are not clipped
  std::function<double(int step)> learning_rate = [](int) { return 0.0; };
  /// Null: gradients are left for the caller's own step.
  std::function<std::unique_ptr<Optimizer>(const std::vector<TrainedSlice>&)> optimizer = nullptr;
  bool skips_not_finite = false;  ///< a step with a number that is not finite; else the run ends
  bool checks_segments = false;   ///< what every segment makes is looked at for such numbers
  /// Where ranks that stall write what they did last; empty: nowhere.
  std::string folder{};
  /// Watchdog::Options.
  std::function<bool()> report_wanted = nullptr;
  std::function<void(const std::string&)> on_report = nullptr;
  /// Tensors are hashed as they are made, for RankTrainer::check_copies().
  bool compares_copies = false;
};

/// `plan` and `source` outlive the trainers.
struct TrainSetup {
  const TrainPlan& plan;
  ModelSource& source;
  TrainSettings settings;
  std::string agreement;  ///< processes compare this text before they start, line by line
};

}  // namespace plait
