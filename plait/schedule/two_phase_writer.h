/// TwoPhaseWriter: one rank's list, of a schedule with two stages a rank.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <vector>

#include "plait/ir/action.h"

namespace plait {

/// Writes one rank's list of a schedule with two stages a rank. Phase 0 is the stage whose forwards
/// enter first, phase 1 the other; micro-batch numbers count up for each (phase, kind).
class TwoPhaseWriter {
 public:
  TwoPhaseWriter(std::vector<Action>& list, std::array<int, 2> stages,
                 std::array<int, 2> first_microbatch = {0, 0})
      : list_(list), stages_(stages), forwards_(first_microbatch), backwards_(first_microbatch) {}

  void forward(int phase);
  void backward(int phase);
  void backward_input(int phase);
  /// W of the oldest I that has none yet; nothing if there is none.
  void backward_weight();
  /// W of the oldest I of one phase.
  void backward_weight_of(int phase);
  void pair(int forward_phase, int backward_phase);
  void pair_with_input(int forward_phase, int backward_phase);
  void reserve(std::size_t actions) { list_.reserve(actions); }
  void idle(int slots) { list_.resize(list_.size() + static_cast<std::size_t>(slots)); }
  int forwards(int phase) const { return forwards_[index(phase)]; }
  bool weights_left() const { return !waiting_.empty(); }

 private:
  static std::size_t index(int phase) { return static_cast<std::size_t>(phase); }
  Action next_forward(int phase);
  Action next_backward(int phase, ActionType type);

  std::vector<Action>& list_;
  std::array<int, 2> stages_;
  std::array<int, 2> forwards_;
  std::array<int, 2> backwards_;
  std::deque<Action> waiting_;  // I's without their W
};

}  // namespace plait
