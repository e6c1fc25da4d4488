/// Holders: which rank holds a stage for a micro-batch, and whether an action stands on it.
#pragma once

#include <cstddef>
#include <vector>

#include "plait/ir/schedule.h"

namespace plait::verify_detail {

/// The placement of a schedule, looked up without a division.
class Holders {
 public:
  explicit Holders(const Schedule& schedule);
  int stages() const { return stages_; }
  int microbatches() const { return microbatches_; }
  int copies() const { return static_cast<int>(copy_begin_.size()); }
  int copy_of(int microbatch) const {
    std::size_t copy = copy_begin_.size() - 1;
    while (copy_begin_[copy] > microbatch) --copy;
    return static_cast<int>(copy);
  }
  int rank_of(int stage, int microbatch) const { return rank_of_copy(stage, copy_of(microbatch)); }
  int rank_of_copy(int stage, int copy) const {
    const int index = copy * stages_ + stage;
    return rank_of_[static_cast<std::size_t>(index)];
  }
  /// True if a value between the two stages crosses ranks.
  bool crosses(int stage, int other, int microbatch) const {
    const int copy = copy_of(microbatch);
    return rank_of_copy(stage, copy) != rank_of_copy(other, copy);
  }
  /// True if the rank holds any copy of the stage.
  bool holds(int rank, int stage) const;
  /// True for actions with a stage and, where they need one, a micro-batch within the numbers.
  bool in_range(const Action& action) const {
    if (action.stage < 0 || action.stage >= stages_) return false;
    return !has_microbatch(action.type) ||
           (action.microbatch >= 0 && action.microbatch < microbatches_);
  }
  /// True if the action is in range and its rank is the one that holds it.
  bool in_place(int rank, const Action& action) const {
    if (!in_range(action)) return false;
    return has_microbatch(action.type) ? rank_of(action.stage, action.microbatch) == rank
                                       : holds(rank, action.stage);
  }

 private:
  int stages_;
  int microbatches_;
  std::vector<int> copy_begin_;  // first micro-batch of each copy
  std::vector<int> rank_of_;     // as in the placement
};

}  // namespace plait::verify_detail
