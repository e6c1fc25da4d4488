/// What the interleaved schedules share: rounds of micro-batches that go through all chunks.
#pragma once

#include <vector>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"
#include "plait/schedule/generators.h"

namespace plait {

/// One rank's forwards and backwards of a `loop` placement, each in its order: a round's
/// micro-batches through one chunk, then through the next. Source: torch's
/// ScheduleInterleaved1F1B; arXiv:2104.04473.
struct InterleavedRank {
  std::vector<Action> forwards;
  std::vector<Action> backwards;  ///< as I
};

/// Micro-batches of each round, the larger ones first. torch's rounds: max(1, M div P).
std::vector<int> interleaved_rounds(const ScheduleShape& shape);

/// Errors: M not a multiple of the rounds (unless any_m).
Expected<void> check_interleaved_rounds(std::string_view name, const ScheduleShape& shape);

InterleavedRank interleaved_rank(const ScheduleShape& shape, const std::vector<int>& rounds,
                                 int rank);

}  // namespace plait
