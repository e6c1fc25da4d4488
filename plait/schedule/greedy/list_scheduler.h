/// Makes an order by running ranks greedily: a rank that is free takes the best action whose input
/// is there. What the cost-aware schedules and `hanayo` are made with.
#pragma once

#include <cstdint>
#include <vector>

#include "plait/base/error.h"
#include "plait/base/units.h"
#include "plait/ir/costs.h"
#include "plait/ir/schedule.h"

namespace plait {

/// When a W may fill a wait, if the time of the next arrival is known.
enum class WeightRule : std::uint8_t {
  kAlways,  ///< whenever nothing else can run
  kFits,    ///< if it ends before the next arrival
  kHalf,    ///< if it ends at most half a W after the next arrival
};

struct ListPolicy {
  bool split = true;  ///< I and W apart; else B
  WeightRule weight = WeightRule::kAlways;
  bool alternate = false;  ///< a forward that is there goes before the second of two backwards
  bool low_memory_first = false;  ///< a forward of a later chunk goes before one of an earlier
  int activations = 0;            ///< cap of a rank in stage activations, 0: none
  std::vector<int> of_stage{};    ///< most activations of each stage of a copy; empty: no limit
  int first_microbatch = 0;
  int microbatches = 0;  ///< how many from there
};

/// Appends the order to the lists and returns its makespan. Cost: O(A log P) for A actions.
/// `costs` per stage. A cap too small to go on ends as an error with the numbers.
Expected<Nanoseconds> append_list_schedule(Schedule& schedule, const ActionCosts& costs,
                                           const ListPolicy& policy);

}  // namespace plait
