/// What one sees while a job trains: a block redrawn in place on a terminal, else lines. No torch.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "plait/base/units.h"
#include "plait/train/metrics.h"

namespace plait {

/// What stays the same from step to step.
struct ProgressPlan {
  int steps = 1;
  int ranks = 1;
  int threads = 1;  ///< intra-op, per rank
  int cores = 1;    ///< of this machine, for the ranks that run on it
  int log_every = 1;
};

/// "oversubscribed: 4 ranks on 2 cores" if ranks * threads > cores, else empty.
std::string oversubscription(const ProgressPlan& plan);

/// "2:13", "1:02:13"; "?" if negative.
std::string format_duration(double seconds);

/// "[#####-----]", `width` signs between the brackets.
std::string format_bar(std::int64_t done, std::int64_t all, int width);

/// One step in one line, no line end: loss, gradient norm, learning rate, tokens/s, bubble (worst
/// and by rank), peak activations by rank, pairs, time left.
std::string format_step_line(const ProgressPlan& plan, const StepMetrics& metrics,
                             double seconds_left);

/// The same as lines of at most `columns` signs under a bar.
std::vector<std::string> format_step_block(const ProgressPlan& plan, const StepMetrics& metrics,
                                           double seconds_left, int columns);

/// Draws to a stream that the tool gives. Not thread-safe.
class Progress {
 public:
  /// `terminal`: redraw in place, in the terminal's width; else a line every log_every steps and
  /// for the first and the last one.
  Progress(const ProgressPlan& plan, std::FILE* out, bool terminal);

  /// After each step; `seconds_left` is reckoned from the steps' own times and those between.
  void step(const StepMetrics& metrics);
  /// A line of its own that stays, such as a validation's result.
  void line(const std::string& text);
  /// Leaves the last block standing. Call it before anything else writes to the stream.
  void finish();

 private:
  void clear_block();

  ProgressPlan plan_;
  std::FILE* out_;
  bool terminal_;
  int drawn_lines_ = 0;
  std::vector<std::string> block_;
  Nanoseconds last_step_at_ = -1;
  double seconds_per_step_ = -1;
};

/// The width of the terminal behind the stream; 80 if it has none.
int terminal_columns(std::FILE* out);

}  // namespace plait
