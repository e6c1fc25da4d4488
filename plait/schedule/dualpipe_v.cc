#include <fmt/format.h>

#include <array>
#include <deque>

#include "plait/placement/placements.h"
#include "plait/schedule/generators.h"
#include "plait/schedule/shape.h"

namespace plait {
namespace {

/// Writes one rank's list. Phase 0 is the stage on the way down, phase 1 the one on the way up;
/// micro-batch numbers count up for each (phase, kind).
class RankWriter {
 public:
  RankWriter(std::vector<Action>& list, int stage_down, int stage_up)
      : list_(list), stages_{stage_down, stage_up} {}

  void forward(int phase) { list_.push_back(next_forward(phase)); }
  void backward(int phase) { list_.push_back(next_backward(phase, ActionType::kBackward)); }
  void backward_input(int phase) {
    list_.push_back(next_backward(phase, ActionType::kBackwardInput));
    waiting_.push_back(list_.back());
  }
  void backward_weight() {  // of the oldest I
    Action action = waiting_.front();
    waiting_.pop_front();
    action.type = ActionType::kBackwardWeight;
    list_.push_back(action);
  }
  void pair(int forward_phase, int backward_phase) {
    list_.push_back({-1, -1, ActionType::kOverlapFB, 0, 2});
    list_.push_back(next_forward(forward_phase));
    list_.push_back(next_backward(backward_phase, ActionType::kBackward));
  }

 private:
  Action next_forward(int phase) {
    return compute(ActionType::kForward, stages_[at(phase)], forwards_[at(phase)]++);
  }
  Action next_backward(int phase, ActionType type) {
    return compute(type, stages_[at(phase)], backwards_[at(phase)]++);
  }
  static std::size_t at(int phase) { return static_cast<std::size_t>(phase); }

  std::vector<Action>& list_;
  std::array<int, 2> stages_;
  std::array<int, 2> forwards_{};
  std::array<int, 2> backwards_{};
  std::deque<Action> waiting_;
};

void write_rank(RankWriter writer, int ranks, int rank, int microbatches) {
  const int below = ranks - 1 - rank;  // ranks further down the V
  // 1. Forwards on the way down until the first comes back up.
  for (int i = 0; i < 2 * below; ++i) writer.forward(0);
  // 2. Forwards both ways.
  for (int i = 0; i <= rank; ++i) {
    writer.forward(0);
    writer.forward(1);
  }
  // 3. The first backwards, split so that the rank above gets its gradient sooner.
  for (int i = 0; i < below; ++i) {
    writer.backward_input(1);
    writer.backward_weight();
    writer.forward(1);
  }
  // 4. Pairs both ways. On the lowest rank the very first pair would wait for itself: it is apart.
  for (int i = 0; i < microbatches - 2 * ranks + rank + 1; ++i) {
    if (i == 0 && below == 0) {
      writer.forward(0);
      writer.backward(1);
    } else {
      writer.pair(0, 1);
    }
    writer.pair(1, 0);
  }
  // 5. No forwards are left on the way down.
  for (int i = 0; i < below; ++i) {
    writer.backward(1);
    writer.pair(1, 0);
  }
  // 6. Backwards both ways, from the middle on with W put off to fill the drain.
  bool split = false;
  for (int i = 0; i <= rank; ++i) {
    if (i == (rank + 1) / 2 && rank % 2 == 1) split = true;
    split ? writer.backward_input(1) : writer.backward(1);
    if (i == rank / 2 && rank % 2 == 0) split = true;
    split ? writer.backward_input(0) : writer.backward(0);
  }
  // 7. W where the rank would wait for a gradient.
  for (int i = 0; i < below; ++i) {
    writer.backward_weight();
    writer.backward_input(0);
  }
  // 8. The rest of W.
  for (int i = 0; i <= rank; ++i) writer.backward_weight();
}

}  // namespace

Expected<Schedule> generate_dualpipe_v(int ranks, int microbatches, int chunks) {
  PLAIT_TRY_VOID(check_shape("dualpipe-v", ranks, microbatches, chunks, 2));
  if (microbatches < 2 * ranks) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("dualpipe-v: microbatches is {}, needs at least {}, twice the {} ranks",
                            microbatches, 2 * ranks, ranks));
  }
  PLAIT_TRY(Placement placement, place_v(ranks, 2 * ranks));
  Schedule schedule = empty_schedule("dualpipe-v", std::move(placement), microbatches);
  for (int rank = 0; rank < ranks; ++rank) {
    write_rank(
        RankWriter(schedule.ranks[static_cast<std::size_t>(rank)], rank, 2 * ranks - 1 - rank),
        ranks, rank, microbatches);
  }
  return schedule;
}

}  // namespace plait
