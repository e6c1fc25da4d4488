/// What all generators check and build alike.
#pragma once

#include <array>
#include <deque>
#include <optional>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"
#include "plait/schedule/generators.h"

namespace plait {

/// Errors: P, M or V below 1; V not `needed_chunks` (0: any); S or M beyond what a schedule's text
/// can hold.
Expected<void> check_shape(std::string_view name, const ScheduleShape& shape, int needed_chunks);

/// "name: microbatches is M, <needs>" as an error, or nothing if `holds`.
Expected<void> check_microbatches(std::string_view name, const ScheduleShape& shape, bool holds,
                                  std::string_view needs);

inline Action compute(ActionType type, int stage, int microbatch) {
  return {stage, microbatch, type, 0};
}

/// zbv for any M under another name: the order of schedules with pairs below the M that pairs need.
Expected<Schedule> zbv_of_any_m(std::string_view name, const ScheduleShape& shape);

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
  int forwards(int phase) const { return forwards_[at(phase)]; }
  bool weights_left() const { return !waiting_.empty(); }

 private:
  static std::size_t at(int phase) { return static_cast<std::size_t>(phase); }
  Action next_forward(int phase);
  Action next_backward(int phase, ActionType type);

  std::vector<Action>& list_;
  std::array<int, 2> stages_;
  std::array<int, 2> forwards_;
  std::array<int, 2> backwards_;
  std::deque<Action> waiting_;  // I's without their W
};

/// DualPipe's eight steps for one rank. `half` is the number of ranks a direction goes through
/// before it meets the other, `depth` the rank's distance from where phase 0 enters, `microbatches`
/// those of one direction, at least twice `half`; the phase `less` has one less. Source:
/// deepseek-ai/DualPipe, dualpipe.py and dualpipev.py.
void write_dualpipe_rank(TwoPhaseWriter writer, int half, int depth, int microbatches,
                         std::optional<int> less = {});

}  // namespace plait
