#include "plait/schedule/shape.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <limits>

namespace plait {

Expected<void> check_shape(std::string_view name, const ScheduleShape& shape, int needed_chunks) {
  const auto refuse = [&](std::string_view what, int value, std::string_view needs) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{}: {} is {}, needs {}", name, what, value, needs));
  };
  if (shape.ranks < 1) return refuse("ranks", shape.ranks, "at least 1");
  if (shape.microbatches < 1) return refuse("microbatches", shape.microbatches, "at least 1");
  if (shape.chunks < 1) return refuse("chunks", shape.chunks, "at least 1");
  if (needed_chunks != 0 && shape.chunks != needed_chunks) {
    return refuse("chunks", shape.chunks, fmt::format("exactly {} per rank", needed_chunks));
  }
  constexpr std::int64_t kMaxStages = 1 << 20;
  const std::int64_t stages = std::int64_t{shape.ranks} * shape.chunks;
  if (stages > kMaxStages) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{}: {} ranks of {} chunks are {} stages, needs at most {}", name,
                            shape.ranks, shape.chunks, stages, kMaxStages));
  }
  constexpr std::int64_t kMaxCells = std::int64_t{1} << 32;
  if (stages * shape.microbatches > kMaxCells) {
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("{}: {} stages of {} micro-batches are {} cells, needs at most {}", name,
                    stages, shape.microbatches, stages * shape.microbatches, kMaxCells));
  }
  return {};
}

Expected<void> check_microbatches(std::string_view name, const ScheduleShape& shape, bool holds,
                                  std::string_view needs) {
  if (holds) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("{}: microbatches is {}, needs {}", name, shape.microbatches, needs));
}

Action TwoPhaseWriter::next_forward(int phase) {
  return compute(ActionType::kForward, stages_[at(phase)], forwards_[at(phase)]++);
}

Action TwoPhaseWriter::next_backward(int phase, ActionType type) {
  return compute(type, stages_[at(phase)], backwards_[at(phase)]++);
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
    return action.stage == stages_[at(phase)];
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

namespace {

/// Step 4: pairs of forward and backward, the phases in turn. Where the directions meet the very
/// first would wait for itself: it is apart. The forward and the backward that phase `less` does
/// not have are missing from the first two pairs that hold them, which all ranks come to about the
/// same time: later ones would leave a gap.
void write_dualpipe_pairs(TwoPhaseWriter& writer, int pairs, bool innermost,
                          std::optional<int> less) {
  for (int pair = 0; pair < pairs; ++pair) {
    const int phase = pair % 2;
    if (less && (pair == *less || pair == *less + 1)) {
      phase == *less ? writer.backward(1 - phase) : writer.forward(phase);
    } else if (pair == 0 && innermost) {
      writer.forward(phase);
      writer.backward(1 - phase);
    } else {
      writer.pair(phase, 1 - phase);
    }
  }
}

}  // namespace

void write_dualpipe_rank(TwoPhaseWriter writer, int half, int depth, int microbatches,
                         std::optional<int> less) {
  const int below = half - 1 - depth;  // ranks further on before the directions meet
  const int pairs = 2 * (microbatches - 2 * half + depth + 1) + below - (below == 0 ? 1 : 0);
  const int split = 2 * half - depth - 1;
  writer.reserve(4 * static_cast<std::size_t>(microbatches) + static_cast<std::size_t>(pairs) +
                 static_cast<std::size_t>(split));
  // 1. Forwards of phase 0 until the first of phase 1 arrives.
  for (int i = 0; i < 2 * below; ++i) writer.forward(0);
  // 2. Forwards both ways.
  for (int i = 0; i <= depth; ++i) {
    writer.forward(0);
    writer.forward(1);
  }
  // 3. The first backwards, split so that the neighbour gets its gradient sooner.
  for (int i = 0; i < below; ++i) {
    writer.backward_input(1);
    writer.backward_weight();
    writer.forward(1);
  }
  // 4. Pairs both ways.
  write_dualpipe_pairs(writer, 2 * (microbatches - 2 * half + depth + 1), below == 0, less);
  // 5. No forwards of phase 0 are left.
  for (int i = 0; i < below; ++i) {
    writer.backward(1);
    writer.pair(1, 0);
  }
  // 6. Backwards both ways, from the middle on with W put off to fill the drain.
  bool late = false;
  for (int i = 0; i <= depth; ++i) {
    if (i == (depth + 1) / 2 && depth % 2 == 1) late = true;
    late ? writer.backward_input(1) : writer.backward(1);
    if (i == depth / 2 && depth % 2 == 0) late = true;
    late ? writer.backward_input(0) : writer.backward(0);
  }
  // 7. W where the rank would wait for a gradient.
  for (int i = 0; i < below; ++i) {
    writer.backward_weight();
    writer.backward_input(0);
  }
  // 8. The rest of W.
  for (int i = 0; i <= depth; ++i) writer.backward_weight();
}

}  // namespace plait
