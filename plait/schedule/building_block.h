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
  kLate,   ///< kFree; then: 1. take out the W's of the drain 2. move its I's to the earliest free
           ///< slots 3. put the W's into the slots that are free now
  kBlock,  ///< the slot behind its I; I and W move as one, and the gradient is there after W
};

/// `blocks` by rank. Errors: more micro-batches than slots can be counted for.
/// Cost: O(P * M + P^3).
Expected<Schedule> repeat_block(std::string_view name, const ScheduleShape& shape,
                                const std::vector<BlockSlots>& blocks, WeightSlots rule);

}  // namespace plait
