/// The order of forwards and of backwards that the interleaved schedules share.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/schedule/generators.h"

namespace plait {

/// Sizes of the rounds in which micro-batches go through all chunks: max(1, M div P) rounds, equal
/// ones where M is a multiple of that; else (any_m) the first are one longer.
std::vector<int> interleaved_rounds(const ScheduleShape& shape);

/// Errors: M is no multiple of the number of rounds and not any_m.
Expected<void> check_interleaved_rounds(std::string_view name, const ScheduleShape& shape);

/// Walks one rank's forwards, or its backwards: round by round, chunk by chunk (backwards: from the
/// last chunk on), micro-batch by micro-batch.
class InterleavedWalk {
 public:
  InterleavedWalk(const ScheduleShape& shape, const std::vector<int>& rounds, int rank,
                  ActionType type)
      : rounds_(rounds), ranks_(shape.ranks), chunks_(shape.chunks), rank_(rank), type_(type) {}

  /// Not after the last.
  Action next() {
    const int chunk = type_ == ActionType::kForward ? chunk_ : chunks_ - 1 - chunk_;
    const Action action{chunk * ranks_ + rank_, first_ + index_, type_, 0};
    if (++index_ == rounds_[round_]) {
      index_ = 0;
      if (++chunk_ == chunks_) {
        chunk_ = 0;
        first_ += rounds_[round_++];
      }
    }
    return action;
  }

 private:
  const std::vector<int>& rounds_;
  int ranks_;
  int chunks_;
  int rank_;
  ActionType type_;
  std::size_t round_ = 0;
  int chunk_ = 0;
  int index_ = 0;  // within the round
  int first_ = 0;  // micro-batch of the round
};

}  // namespace plait
