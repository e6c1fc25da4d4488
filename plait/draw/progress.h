/// The lines a person watches. Knows no torch.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "plait/record/step_report.h"

namespace plait {

struct ProgressShape {
  int steps = 0;
  int ranks = 0;
  int cores = 0;
  int threads = 1;  ///< intra-op threads per rank
};

/// "step 12/300  loss 2.3457  norm 0.812  8000 tok/s  bubble 23%  exposed 5%  peak 3.1 MB": of the
/// ranks the worst. "overlap 81%" stands in place of exposed where pairs are braided, and "3 I as
/// B" behind the rest if some I's could not be split. At most 100 columns below 10,000 steps,
/// 1,000,000 tokens a second and 10,000 MB.
std::string step_text(const StepLine& line, const ProgressShape& shape);

/// What stands once before the first step, with line ends: how to read the line, and where the rest
/// is, `metrics`.
std::string step_legend(const ProgressShape& shape, const std::string& metrics);

/// "[#####.....] 50%  1:05 left", or "2:01:05 left", from the time of the steps so far.
std::string bar_text(int step, int steps, Nanoseconds elapsed);

/// "oversubscribed: 4 ranks on 2 cores", empty if they are not. Busy time then counts being
/// preempted.
std::string oversubscribed_text(const ProgressShape& shape);

/// The text in lines of at most `columns` signs, broken where two spaces are; what is longer
/// without a break is cut.
std::vector<std::string> wrap_text(const std::string& text, std::size_t columns);

/// Redraws the step and a bar in place on a terminal, in its width; elsewhere one line every
/// `log_every` steps and one for the last.
class Progress {
 public:
  Progress(std::FILE* out, bool terminal, ProgressShape shape, int log_every);
  void step(const StepLine& line, Nanoseconds elapsed);
  /// A line of its own, above the redrawn ones.
  void note(const std::string& text);
  void end();

 private:
  void erase();
  std::FILE* out_;
  bool terminal_;
  ProgressShape shape_;
  int log_every_;
  std::size_t drawn_lines_ = 0;
};

}  // namespace plait
