/// MissingInput: what a rank's next block waits for, and the error where every rank waits.
/// A block is an action, or a pair with its members.
#pragma once

#include <cstddef>
#include <vector>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"
#include "plait/passes/arrived.h"
#include "plait/passes/value_numbers.h"

namespace plait::passes_detail {

struct MissingInput {
  std::size_t value = kNone;  ///< kNone: every input is there
  const Action* reader = nullptr;
};

/// The first input of the block at `position` that is not there. Cost: O(members).
inline MissingInput first_missing(const std::vector<Action>& list, std::size_t position,
                                  const ValueNumbers& values, const Arrived& there) {
  const std::size_t end = position + 1 + list[position].members;
  for (std::size_t i = position; i < end; ++i) {
    const std::size_t value = values.needed(list[i]);
    if (value != kNone && !there.has(value)) return {value, &list[i]};
  }
  return {};
}

/// The error: each unfinished rank, its action at `next`, and what that waits for.
tl::unexpected<Error> no_rank_can_go_on(const Schedule& schedule, const ValueNumbers& values,
                                        const std::vector<std::size_t>& next, const Arrived& there);

}  // namespace plait::passes_detail
