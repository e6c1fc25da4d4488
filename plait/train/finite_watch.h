/// Watches the numbers of one rank's step for infinities and NaNs.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "plait/record/step_report.h"

namespace plait {

/// Keeps the earliest finding of a step: forwards before losses before backwards before gradients
/// of parameters, then the lowest micro-batch, then the stage that comes first in that direction.
/// Tensors on a GPU are not looked at: that would make the host wait. Not thread-safe. Cost: reads
/// each tensor once.
class FiniteWatch {
 public:
  /// Before a round: micro-batches of later rounds count on.
  void begin_round(int first_microbatch) { first_microbatch_ = first_microbatch; }
  void begin_step() { found_.reset(); }

  /// `what`: whose tensors these are: "its output".
  void look(NotFinite::Phase phase, int microbatch, int stage, const std::string& what,
            const std::vector<at::Tensor>& tensors);
  void look_at_loss(int microbatch, int stage, double loss);
  /// Of a parameter: the sum of its gradient's squares.
  void look_at_gradient(const SquareSums& sums);

  const std::optional<NotFinite>& found() const { return found_; }

 private:
  void add(NotFinite finding);

  int first_microbatch_ = 0;
  std::optional<NotFinite> found_;
};

}  // namespace plait
