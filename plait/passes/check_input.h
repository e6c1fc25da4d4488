/// What a pass checks of its input before it uses stages and micro-batches as indices.
#pragma once

#include <cstdint>

#include "plait/base/error.h"
#include "plait/ir/schedule.h"

namespace plait::passes_detail {

/// Whether a pass takes schedules that hold sends and receives.
enum class Communication : std::uint8_t { kTaken, kRefused };

/// Errors: numbers that do not fit together, a pair longer than its list, a stage or micro-batch
/// out of range, a compute action on another rank than the placement's, a message without other
/// end, communication where it is refused. Names rank, position and action. Cost: O(actions).
Expected<void> check_input(const Schedule& schedule, Communication communication);

/// Errors: values cross ranks, and the schedule holds no communication. Cost: O(actions).
Expected<void> check_lowered(const Schedule& schedule);

}  // namespace plait::passes_detail
