/// Sets of times as sorted, disjoint intervals.
#pragma once

#include <utility>
#include <vector>

#include "plait/base/units.h"

namespace plait {

using Interval = std::pair<Nanoseconds, Nanoseconds>;  ///< begin and end

/// Sorted and disjoint. Cost: O(n log n).
std::vector<Interval> unite(std::vector<Interval> intervals);

/// Of intervals that unite() made, as those below.
Nanoseconds length(const std::vector<Interval>& intervals);

/// How much of one lies in the other. Cost: O(n).
Nanoseconds common_length(const std::vector<Interval>& one, const std::vector<Interval>& other);

}  // namespace plait
