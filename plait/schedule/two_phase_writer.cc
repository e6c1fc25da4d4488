#include "plait/schedule/two_phase_writer.h"

#include <algorithm>

#include "plait/schedule/compute_action.h"

namespace plait {

Action TwoPhaseWriter::next_forward(int phase) {
  return compute(ActionType::kForward, stages_[index(phase)], forwards_[index(phase)]++);
}

Action TwoPhaseWriter::next_backward(int phase, ActionType type) {
  return compute(type, stages_[index(phase)], backwards_[index(phase)]++);
}

void TwoPhaseWriter::forward(int phase) { list_.push_back(next_forward(phase)); }

void TwoPhaseWriter::backward(int phase) {
  list_.push_back(next_backward(phase, ActionType::kBackward));
}

void TwoPhaseWriter::backward_input(int phase) {
  list_.push_back(next_backward(phase, ActionType::kBackwardInput));
  waiting_.push_back(list_.back());
}

void TwoPhaseWriter::backward_weight() {
  if (waiting_.empty()) return;
  Action action = waiting_.front();
  waiting_.pop_front();
  action.type = ActionType::kBackwardWeight;
  list_.push_back(action);
}

void TwoPhaseWriter::backward_weight_of(int phase) {
  const auto oldest = std::find_if(waiting_.begin(), waiting_.end(), [&](const Action& action) {
    return action.stage == stages_[index(phase)];
  });
  if (oldest == waiting_.end()) return;
  Action action = *oldest;
  waiting_.erase(oldest);
  action.type = ActionType::kBackwardWeight;
  list_.push_back(action);
}

void TwoPhaseWriter::pair(int forward_phase, int backward_phase) {
  list_.push_back({-1, -1, ActionType::kOverlapFB, 2});
  list_.push_back(next_forward(forward_phase));
  list_.push_back(next_backward(backward_phase, ActionType::kBackward));
}

void TwoPhaseWriter::pair_with_input(int forward_phase, int backward_phase) {
  list_.push_back({-1, -1, ActionType::kOverlapFB, 2});
  list_.push_back(next_forward(forward_phase));
  backward_input(backward_phase);
}

}  // namespace plait
