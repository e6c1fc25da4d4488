/// Passes that rewrite each rank's list on its own.
#pragma once

#include <cstddef>
#include <vector>

#include "plait/ir/schedule.h"

namespace plait::passes_detail {

/// Appends the action at `position`, a pair with its members; returns where the next one starts.
inline std::size_t append_block(const std::vector<Action>& list, std::size_t position,
                                std::vector<Action>& output) {
  const std::size_t end = position + 1 + list[position].members;
  for (std::size_t i = position; i < end; ++i) output.push_back(list[i]);
  return end;
}

/// Replaces each list by what rewrite(rank, list, output) appends to `output`, which all ranks
/// share: beside the schedule there is never more than the longest list.
template <typename Rewrite>
Schedule rewrite_lists(Schedule schedule, Rewrite rewrite) {
  std::vector<Action> output;
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    output.clear();
    rewrite(rank, schedule.ranks[rank], output);
    schedule.ranks[rank].assign(output.begin(), output.end());
  }
  return schedule;
}

}  // namespace plait::passes_detail
