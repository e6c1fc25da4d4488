/// ValueNumbers: the values that stages hand to their neighbours, numbered.
///
/// A value is numbered by its consumer: an input of the F of (stage, micro-batch), or of its I or
/// B. Every query is O(1).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "plait/ir/direction.h"
#include "plait/ir/schedule.h"

namespace plait::passes_detail {

inline constexpr std::size_t kNone = static_cast<std::size_t>(-1);

class ValueNumbers {
 public:
  explicit ValueNumbers(const Schedule& schedule)
      : rank_of_stage_(schedule.placement.rank_of_stage),
        stages_(schedule.placement.stages()),
        copies_(schedule.placement.copies),
        microbatches_(schedule.microbatches),
        row_bits_(static_cast<int>(std::bit_width(static_cast<unsigned>(microbatches_ - 1)))) {}

  /// Numbers are below this. A consumer's forward or backward has a row of 2^row_bits() of them,
  /// the first by micro-batch.
  std::size_t size() const { return 2 * static_cast<std::size_t>(stages_) << row_bits_; }
  int row_bits() const { return row_bits_; }
  std::size_t rank_of(int stage, int microbatch) const {
    int index = stage;
    if (copies_ > 1)
      index += stages_ * static_cast<int>(std::int64_t{copies_} * microbatch / microbatches_);
    return static_cast<std::size_t>(rank_of_stage_[static_cast<std::size_t>(index)]);
  }

  /// The stage that gets what an F, I or B makes; -1 if none does, or the action makes nothing.
  int consumer(const Action& action) const {
    if (!passes_value(action.type)) return -1;
    return stage_or_none(stage_after(direction_of(action.type), action.stage));
  }
  /// The stage at the other end of a send or receive; -1 if there is none.
  int peer_stage(const Action& message) const { return stage_or_none(other_end(message).stage); }
  std::size_t number(Direction direction, int consumer_stage, int microbatch) const {
    const std::size_t row =
        static_cast<std::size_t>(consumer_stage) * 2 + static_cast<std::size_t>(direction);
    return (row << row_bits_) + static_cast<std::size_t>(microbatch);
  }
  /// The value an action needs from a neighbouring stage, kNone if it needs none.
  std::size_t needed(const Action& action) const {
    if (!passes_value(action.type)) return kNone;
    const Direction direction = direction_of(action.type);
    if (stage_or_none(stage_before(direction, action.stage)) < 0) return kNone;
    return number(direction, action.stage, action.microbatch);
  }
  /// The value that a receive brings.
  std::size_t received(const Action& receive) const {
    return number(direction_of(receive.type), receive.stage, receive.microbatch);
  }

 private:
  int stage_or_none(int stage) const { return stage < stages_ ? stage : -1; }

  std::vector<int> rank_of_stage_;
  int stages_;
  int copies_;
  int microbatches_;
  int row_bits_;
};

}  // namespace plait::passes_detail
