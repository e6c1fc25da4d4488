/// Schedules from a building block: the slots of the first micro-batch on a `v`, repeated every six
/// slots, tightened at both ends without more memory. Source: arXiv:2405.15362, section 4 and
/// sail-sg/zero-bubble-pipeline-parallelism, zbv_greedy.py.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "plait/base/error.h"
#include "plait/schedule/generators.h"

namespace plait {

/// Unit slots of one rank's first micro-batch.
struct BlockSlots {
  int forward_down = 0;
  int forward_up = 0;
  int backward_up = 0;    ///< I of the later stage
  int backward_down = 0;  ///< I of the first stage
};

enum class WeightSlots : std::uint8_t {
  kFree,   ///< whatever slot is free, the oldest I first
  kLate,   ///< the same; then the drain is tightened once more without its W's, which fill what is
           ///< left
  kBlock,  ///< the slot behind its I, and both move as one; the gradient is there behind W
};

/// `blocks` by rank. Errors: more micro-batches than slots can be counted for.
/// Cost: O(P * M + P^3).
Expected<Schedule> repeat_block(std::string_view name, const ScheduleShape& shape,
                                const std::vector<BlockSlots>& blocks, WeightSlots rule);

}  // namespace plait
