/// The values that stages hand to their neighbours, numbered, and which of them are there.
///
/// A value is named by its consumer: the forward's input of (stage, micro-batch), or its
/// backward's. Built once per pass, O(S * M) bits; every query is O(1).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "plait/ir/direction.h"
#include "plait/ir/schedule.h"

namespace plait::passes_detail {

inline constexpr std::size_t kNone = static_cast<std::size_t>(-1);

class Values {
 public:
  explicit Values(const Schedule& schedule)
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

/// The values that are there. Most come by ascending micro-batch, where one number for each
/// consumer and direction says all; these fit the cache, and a bit for each value does not.
class Arrived {
 public:
  explicit Arrived(const Values& values)
      : row_bits_(values.row_bits()),
        below_(values.size() >> row_bits_),
        beyond_(below_.size()),
        bits_(values.size()) {}

  bool has(std::size_t value) const {
    const std::size_t row = value >> row_bits_;
    return microbatch(value) < below_[row] || (beyond_[row] > 0 && bits_[value]);
  }
  void add(std::size_t value) {
    if (has(value)) return;
    const std::size_t row = value >> row_bits_;
    if (microbatch(value) != below_[row]) {
      bits_[value] = true;
      ++beyond_[row];
      return;
    }
    ++below_[row];
    for (; beyond_[row] > 0 && bits_[(row << row_bits_) + below_[row]]; ++below_[row])
      --beyond_[row];
  }

 private:
  std::size_t microbatch(std::size_t value) const {
    return value & ((std::size_t{1} << row_bits_) - 1);
  }

  int row_bits_;
  std::vector<std::size_t> below_;   // of each row, all micro-batches below this are there,
  std::vector<std::size_t> beyond_;  // and this many others, by their bits
  std::vector<bool> bits_;
};

/// A set of ranks that is walked in ascending order while it changes. Queries cost O(P / 64).
class RankSet {
 public:
  explicit RankSet(std::size_t ranks) : words_((ranks + 63) / 64) {}
  void insert(std::size_t rank) { words_[rank / 64] |= std::uint64_t{1} << (rank % 64); }
  void erase(std::size_t rank) { words_[rank / 64] &= ~(std::uint64_t{1} << (rank % 64)); }
  /// The first member that is `from` or above, kNone if there is none.
  std::size_t next(std::size_t from) const {
    std::size_t word = from / 64;
    if (word >= words_.size()) return kNone;
    std::uint64_t bits = words_[word] >> (from % 64) << (from % 64);
    while (bits == 0) {
      if (++word == words_.size()) return kNone;
      bits = words_[word];
    }
    return word * 64 + static_cast<std::size_t>(std::countr_zero(bits));
  }

 private:
  std::vector<std::uint64_t> words_;
};

}  // namespace plait::passes_detail
