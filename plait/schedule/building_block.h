/// Schedules from a building block: the slots of the first micro-batch on a `v`, repeated every six
/// slots, tightened at both ends without more memory. Source: arXiv:2405.15362, section 4 and
/// sail-sg/zero-bubble-pipeline-parallelism, zbv_greedy.py.
#pragma once

#include <array>
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
  int weight_up = -1;     ///< -1: W goes to whatever slot is free
  int weight_down = -1;
};

/// `blocks` by rank. With `late_weights` the drain is tightened once more with its W's taken out,
/// which then fill what is free. Cost: O(P * M + P^3).
Expected<Schedule> repeat_block(std::string_view name, const ScheduleShape& shape,
                                const std::vector<BlockSlots>& blocks, bool late_weights);

}  // namespace plait
